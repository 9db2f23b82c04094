#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "apps/gander-server/api/openai_request.h"

namespace gander::server {

/// Takes an assistant's reply apart while it is generated: thinking, words, calls of tools. White
/// space around each part is dropped, and held back until it is known to lie inside.
class ReplyStream {
 public:
  struct Piece {
    std::string thinking = {}, words = {};
    bool empty() const { return thinking.empty() && words.empty(); }
  };

  /// `tools`: the calls to look for; none: braces and fences are words. `goes_on`: words stand
  /// before the reply, so that white space at its beginning belongs to it.
  explicit ReplyStream(std::vector<Tool> tools = {}, bool goes_on = false);

  /// Adds text and returns what became certain.
  Piece push(std::string_view text);
  /// The rest, when there is no more text. A call that is none, or of no tool, was words.
  Piece finish();
  /// After finish().
  const std::vector<ToolCall>& tool_calls() const { return tool_calls_; }

 private:
  enum class Part { Beginning, Thinking, Words, Calls };

  void take(bool is_end, Piece& piece);
  void show(std::size_t size, bool is_end, std::string& out);

  std::vector<Tool> tools_;
  Part part_ = Part::Beginning;
  bool is_begun_;       // something of this part was shown
  std::string buffer_;  // not shown yet
  std::vector<ToolCall> tool_calls_;
};

/// The calls in "```json {...} ```" or plain JSON: objects, or arrays of them, with a name and
/// arguments. Empty when one of them is none of `tools`, or when it is no JSON.
std::vector<ToolCall> parse_tool_calls(std::string_view text, const std::vector<Tool>& tools);

}  // namespace gander::server
