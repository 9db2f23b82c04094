#include "apps/gander/text_input.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace gander {

std::string read_input(const std::string& path) {
  const bool from_stdin = path == "-";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(
      from_stdin ? nullptr : std::fopen(path.c_str(), "rb"),
      [](std::FILE* file) { return file == nullptr ? 0 : std::fclose(file); });
  std::FILE* file = from_stdin ? stdin : opened.get();
  if (file == nullptr) fail("cannot open {}: {}", path, std::strerror(errno));
  std::string text;
  std::size_t filled = 0;
  while (true) {
    text.resize(std::max<std::size_t>(std::size_t{1} << 16, filled * 2));
    filled += std::fread(text.data() + filled, 1, text.size() - filled, file);
    if (filled < text.size()) break;
  }
  if (std::ferror(file) != 0) {
    fail("cannot read {}: {}", from_stdin ? "standard input" : path, std::strerror(errno));
  }
  text.resize(filled);
  return text;
}

std::size_t find_invalid_utf8(std::string_view text) {
  // Ranges of the second byte by lead byte: the table of well-formed sequences in the Unicode
  // standard (no overlong forms, no surrogates, nothing past U+10FFFF).
  const auto at = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned lead = at(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const unsigned length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4) return i;
    const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (at(i + 1) < low || at(i + 1) > high) return i;
    for (unsigned k = 2; k < length; ++k) {
      if (at(i + k) < 0x80 || at(i + k) > 0xbf) return i;
    }
    i += length;
  }
  return std::string_view::npos;
}

void require_utf8(std::string_view text, std::string_view what) {
  const std::size_t offset = find_invalid_utf8(text);
  if (offset == std::string_view::npos) return;
  fail("{} is not valid UTF-8: byte 0x{:02x} at offset {}", what,
       static_cast<unsigned char>(text[offset]), offset);
}

}  // namespace gander
