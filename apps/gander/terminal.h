#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gander {

bool input_is_terminal();
bool output_is_terminal();
bool error_is_terminal();
/// Columns of the terminal on stderr; 80 when it has none.
unsigned terminal_width();

enum class Stream { Output, Error };
enum class Style { Dim, Bold, Cyan };

/// Escape sequences that begin and end a style. Empty unless the stream is a terminal that shows
/// colours: NO_COLOR is unset or empty, and TERM is not "dumb".
std::string_view style_start(Stream stream, Style style);
std::string_view style_end(Stream stream);
std::string styled(Stream stream, Style style, std::string_view text);

/// Text that cannot steer a terminal: control characters other than newline and tab become U+FFFD.
/// File names, metadata and what a model writes are printed through this.
std::string printable(std::string_view text);
/// The same, and newlines and tabs become spaces.
std::string printable_line(std::string_view text);

/// Buffered write to stdout. Throws Error when the bytes cannot be written.
void print(std::string_view text);
/// Passes on what print() has buffered. Throws Error, for example on a full disk.
void flush_output();
/// Writes a line to stderr; there is nowhere to complain when that fails.
void report(std::string_view line);

/// 1234567 as "1,234,567".
std::string grouped(std::uint64_t number);

/// A bar on stderr while something long goes on; nothing unless stderr is a terminal. Removed on
/// destruction.
class Progress {
 public:
  Progress(std::string label, std::uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::uint64_t done);
  /// Removes the bar, before other text.
  void clear();

 private:
  std::string label_;
  std::uint64_t total_;
  std::string shown_;
};

}  // namespace gander
