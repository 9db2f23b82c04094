#include "apps/gander/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace gander {
namespace {

bool shows_colours(int descriptor) {
  if (::isatty(descriptor) == 0) return false;
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* terminal = std::getenv("TERM");
  return terminal != nullptr && std::string_view(terminal) != "dumb";
}

bool shows_colours(Stream stream) {
  static const bool output = shows_colours(STDOUT_FILENO);
  static const bool error = shows_colours(STDERR_FILENO);
  return stream == Stream::Output ? output : error;
}

[[noreturn]] void fail_output() {
  fail("cannot write to standard output: {}", std::strerror(errno));
}

std::string without_controls(std::string_view text, bool keep_lines) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte == '\n' || byte == '\t') {
      result += keep_lines ? text[i] : ' ';
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\uFFFD";
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      result += "\uFFFD";
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

bool input_is_terminal() {
  return ::isatty(STDIN_FILENO) != 0;
}
bool output_is_terminal() {
  return ::isatty(STDOUT_FILENO) != 0;
}
bool error_is_terminal() {
  return ::isatty(STDERR_FILENO) != 0;
}

unsigned terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string_view style_start(Stream stream, Style style) {
  if (!shows_colours(stream)) return "";
  switch (style) {
    case Style::Dim:
      return "\x1b[2m";
    case Style::Bold:
      return "\x1b[1m";
    case Style::Cyan:
      return "\x1b[36m";
  }
  return "";
}

std::string_view style_end(Stream stream) {
  return shows_colours(stream) ? "\x1b[0m" : "";
}

std::string styled(Stream stream, Style style, std::string_view text) {
  return fmt::format("{}{}{}", style_start(stream, style), text, style_end(stream));
}

std::string printable(std::string_view text) {
  return without_controls(text, true);
}

std::string printable_line(std::string_view text) {
  return without_controls(text, false);
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output();
}

void flush_output() {
  if (std::fflush(stdout) != 0) fail_output();
}

void report(std::string_view line) {
  const std::string text = fmt::format("{}\n", line);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

Progress::Progress(std::string label, std::uint64_t total)
    : label_(std::move(label)), total_(std::max<std::uint64_t>(total, 1)) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (shown_.empty()) return;
  std::fputs("\r\x1b[K", stderr);
  shown_.clear();
}

void Progress::update(std::uint64_t done) {
  if (!error_is_terminal()) return;
  const unsigned width = terminal_width();
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const std::string counts = fmt::format("{:3.0f} %", 100 * share);
  std::string line = fmt::format("{} {}", label_, counts);
  if (width > line.size() + 14) {
    const std::size_t room = std::min<std::size_t>(40, width - line.size() - 4);
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(room));
    line = fmt::format("{} [{:<{}}] {}", label_, std::string(filled, '#'), room, counts);
  }
  if (line == shown_) return;
  shown_ = line;
  std::fputs(fmt::format("\r\x1b[K{}", line).c_str(), stderr);
}

}  // namespace gander
