#pragma once

#include <string>
#include <string_view>

namespace gander {

/// Prints a reply as it streams in: without white space around, and with a thought between <think>
/// and </think> dimmed where there are colours, between these tags where there are none. An empty
/// thought is not shown.
class ReplyView {
 public:
  void add(std::string_view piece);
  /// Prints what is held back, and a newline after the reply.
  void finish();

 private:
  enum class Part { Start, Thought, Answer };

  void advance(bool at_end);
  void show(std::string_view text);
  void end_thought();

  Part part_ = Part::Start;
  std::string held_;    // not shown yet: part of a tag, or white space that may stand at the end
  bool shown_ = false;  // something of this part
};

}  // namespace gander
