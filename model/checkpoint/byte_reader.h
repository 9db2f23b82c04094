#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "model/tensor.h"

// What every checkpoint reader needs to take untrusted bytes apart: a cursor that cannot leave
// them, products that cannot overflow, and text that is safe to print.
namespace gander {

static_assert(std::endian::native == std::endian::little, "checkpoints are little endian");

/// Reads little-endian values from bytes, one after the other. Every read is checked; one past the
/// end throws Error with the file, the offset and what was being read.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view path, std::uint64_t offset = 0)
      : bytes_(bytes), path_(path), offset_(offset) {}

  template <typename T>
  T read(std::string_view what) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  /// The next `size` bytes, where they lie.
  std::span<const std::byte> take(std::uint64_t size, std::string_view what);

  std::uint64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return bytes_.size() - offset_; }

 private:
  std::span<const std::byte> bytes_;
  std::string_view path_;
  std::uint64_t offset_;  // never beyond bytes_.size()
};

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Bytes that a tensor of this type and shape takes; nothing when the product overflows. The last
/// dimension of a quantised type must be a multiple of the block.
std::optional<std::uint64_t> tensor_bytes(DataType type, std::span<const std::uint64_t> shape);

/// Text of unknown origin for a message: in double quotes, control characters and invalid bytes
/// escaped, shortened when it is long.
std::string quote(std::string_view text);

/// Whether a name can be printed as it is: 1 to 256 bytes, none of them a control character.
bool is_plain_name(std::string_view name);

}  // namespace gander
