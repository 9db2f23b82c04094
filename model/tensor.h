#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gander {

/// How the numbers of a tensor are stored. The quantised types are GGUF's blocks; their layouts are
/// in model/quant/blocks.h and docs/formats.md.
enum class DataType : std::uint8_t { F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K };

struct DataTypeInfo {
  DataType type;
  std::string_view name;      ///< as GGUF tools print it: "F16", "Q4_K"
  std::uint32_t block_size;   ///< weights in a block (1 for the float types)
  std::uint32_t block_bytes;  ///< bytes of a block
};

const DataTypeInfo& info(DataType type);
inline std::string_view name(DataType type) {
  return info(type).name;
}
std::span<const DataTypeInfo> all_data_types();
/// The type of that name, in any case ("q4_k"); nothing when unknown.
std::optional<DataType> data_type_from_name(std::string_view name);
/// Bytes of a row of `columns` weights, which must be a multiple of the block size.
std::uint64_t row_bytes(DataType type, std::uint64_t columns);

/// A named tensor as it lies in a checkpoint: a view, owned by the TensorSource it came from.
/// The bytes may be unaligned. shape is in PyTorch order, [rows, columns]: the last is contiguous.
struct Tensor {
  std::string name;
  DataType type = DataType::F32;
  std::vector<std::uint64_t> shape;
  std::span<const std::byte> bytes;

  /// Product of the shape (readers have checked that it does not overflow).
  std::uint64_t element_count() const;
};

/// "[65536, 2560]", for messages.
std::string shape_text(std::span<const std::uint64_t> shape);

}  // namespace gander
