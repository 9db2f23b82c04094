#include "model/tokenizer/utf8_stream.h"

namespace gander {
namespace {

constexpr std::size_t kReserved = 4096;

}  // namespace

Utf8Stream::Utf8Stream() {
  out_.reserve(kReserved);
}

std::string_view Utf8Stream::push(std::string_view bytes) {
  out_.clear();
  for (const char c : bytes) take(static_cast<unsigned char>(c));
  return out_;
}

std::string_view Utf8Stream::finish() {
  out_.clear();
  if (missing_ != 0) replace();
  return out_;
}

/// One U+FFFD for the longest prefix of a character that was seen, as the Unicode standard
/// recommends (chapter 3, "U+FFFD Substitution of Maximal Subparts").
void Utf8Stream::replace() {
  out_ += "\xef\xbf\xbd";
  held_size_ = missing_ = 0;
}

void Utf8Stream::take(unsigned char byte) {
  if (missing_ != 0) {
    if (byte >= low_ && byte <= high_) {
      held_[held_size_++] = static_cast<char>(byte);
      low_ = 0x80;
      high_ = 0xbf;
      if (--missing_ == 0) {
        out_.append(held_, held_size_);
        held_size_ = 0;
      }
      return;
    }
    replace();  // and the byte begins something new
  }
  if (byte < 0x80) {
    out_ += static_cast<char>(byte);
    return;
  }
  // The Unicode standard, table 3-7: the second byte's range excludes overlong forms, surrogates
  // and everything above U+10FFFF.
  low_ = 0x80;
  high_ = 0xbf;
  if (byte >= 0xc2 && byte <= 0xdf) {
    missing_ = 1;
  } else if (byte >= 0xe0 && byte <= 0xef) {
    missing_ = 2;
    if (byte == 0xe0) low_ = 0xa0;
    if (byte == 0xed) high_ = 0x9f;
  } else if (byte >= 0xf0 && byte <= 0xf4) {
    missing_ = 3;
    if (byte == 0xf0) low_ = 0x90;
    if (byte == 0xf4) high_ = 0x8f;
  } else {
    replace();
    return;
  }
  held_[0] = static_cast<char>(byte);
  held_size_ = 1;
}

}  // namespace gander
