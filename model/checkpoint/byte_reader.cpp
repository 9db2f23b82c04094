#include "model/checkpoint/byte_reader.h"

#include <algorithm>

#include "base/error.h"

namespace gander {

namespace {

bool is_printable(char character) {
  return character >= 0x20 && character < 0x7f;
}

}  // namespace

std::span<const std::byte> ByteReader::take(std::uint64_t size, std::string_view what) {
  if (size > remaining()) {
    fail("{}: ends too early: {} at offset {} needs {} bytes, and {} are left; download it again",
         path_, what, offset_, size, remaining());
  }
  const auto taken = bytes_.subspan(offset_, size);
  offset_ += size;
  return taken;
}

std::optional<std::uint64_t> tensor_bytes(DataType type, std::span<const std::uint64_t> shape) {
  const DataTypeInfo& entry = info(type);
  // A zero anywhere makes the tensor empty, however large the other dimensions are.
  if (std::ranges::find(shape, 0U) != shape.end()) return 0;
  std::uint64_t count = 1;
  for (const std::uint64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
  }
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(count / entry.block_size, std::uint64_t{entry.block_bytes}, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string result = "\"";
  for (const char character : text.substr(0, kLongest)) {
    if (!is_printable(character)) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(character));
    } else {
      if (character == '"' || character == '\\') result += '\\';
      result += character;
    }
  }
  result += text.size() > kLongest ? "...\"" : "\"";
  return result;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 256 && std::ranges::all_of(name, is_printable);
}

}  // namespace gander
