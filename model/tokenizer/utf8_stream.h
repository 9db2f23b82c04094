#pragma once

#include <string>
#include <string_view>

namespace gander {

/// Turns a stream of bytes cut anywhere into pieces of valid UTF-8. An incomplete character at the
/// end (at most 3 bytes) is held back; bytes that can never become one turn into U+FFFD at once, so
/// that invalid input does not stall the stream.
class Utf8Stream {
 public:
  Utf8Stream();
  /// Adds bytes; returns what is complete now. Valid until the next call. Does not allocate for
  /// pieces up to the reserved size (4 KB).
  std::string_view push(std::string_view bytes);
  /// What is left at the end: U+FFFD for an incomplete character, else nothing. The stream is then
  /// as new.
  std::string_view finish();

 private:
  void take(unsigned char byte);
  void replace();

  std::string out_;
  char held_[4] = {};                       ///< the bytes of the incomplete character
  unsigned held_size_ = 0;                  ///< how many there are
  unsigned missing_ = 0;                    ///< how many more it needs
  unsigned char low_ = 0x80, high_ = 0xbf;  ///< what its next byte must lie between
};

}  // namespace gander
