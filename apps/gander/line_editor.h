#pragma once

#include <memory>
#include <string>

namespace gander {

/// Reads lines from a person: with editing and a history (libedit) when stdin and stdout are
/// terminals, else plainly from stdin without printing the prompt.
class LineEditor {
 public:
  /// `history_path`: where the history is kept between sessions; empty for none. It is not written
  /// without a terminal.
  explicit LineEditor(std::string history_path);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  enum class Event { Line, Interrupted, End };
  /// Line: `line` holds it, without its newline. Interrupted: Ctrl-C, and `line` holds what stood
  /// there. End: Ctrl-D on an empty line, or the end of the input.
  Event read(const std::string& prompt, std::string& line);
  /// Adds an entry to the history and saves it.
  void remember(const std::string& entry);

  bool interactive() const { return editing_ != nullptr; }

 private:
  struct Editing;
  std::unique_ptr<Editing> editing_;
};

/// Where the chat keeps its history: $XDG_STATE_HOME or ~/.local/state, gander/chat_history.
/// Creates the folder; empty when there is no place for it.
std::string chat_history_path();

}  // namespace gander
