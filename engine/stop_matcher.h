#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gander {

/// Finds stop strings in a stream of bytes, wherever it is cut. Bytes are held back only while they
/// could still become a stop string. The first match is the one that is complete first, as if the
/// bytes came one by one; of several complete at the same byte, the longest.
class StopMatcher {
 public:
  /// Throws Error for an empty stop string.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Adds bytes; returns true when a stop string is complete. visible() is then all that came
  /// before it and was not visible yet; the stream ends there. Does not allocate while pieces are
  /// short (256 bytes).
  bool push(std::string_view bytes);
  /// What became visible in the last push; valid until the next.
  std::string_view visible() const { return std::string_view(buffer_).substr(0, visible_); }
  /// Bytes at the end of the stream that may be the beginning of a stop string.
  std::string_view held() const { return std::string_view(buffer_).substr(visible_); }

 private:
  // Knuth, Morris and Pratt: `matched` is the length of the longest beginning of the stop string
  // that the stream ends with; border[n] the next shorter one when n bytes are matched.
  struct Stop {
    std::string text;
    std::vector<std::size_t> border;
    std::size_t matched = 0;
  };
  static void advance(Stop& stop, char byte);

  std::vector<Stop> stops_;
  std::string buffer_;       // what became visible last, then what is held
  std::size_t visible_ = 0;  // where one ends and the other begins
};

}  // namespace gander
