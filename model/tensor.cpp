#include "model/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace gander {

namespace {

constexpr std::array<DataTypeInfo, 8> kTypes = {{
    {DataType::F32, "F32", 1, 4},
    {DataType::F16, "F16", 1, 2},
    {DataType::BF16, "BF16", 1, 2},
    {DataType::Q8_0, "Q8_0", 32, 34},
    {DataType::Q4_0, "Q4_0", 32, 18},
    {DataType::Q4_K, "Q4_K", 256, 144},
    {DataType::Q5_K, "Q5_K", 256, 176},
    {DataType::Q6_K, "Q6_K", 256, 210},
}};

}  // namespace

const DataTypeInfo& info(DataType type) {
  return kTypes[static_cast<std::size_t>(type)];
}

std::span<const DataTypeInfo> all_data_types() {
  return kTypes;
}

std::optional<DataType> data_type_from_name(std::string_view name) {
  const auto same = [](char a, char b) {
    return std::toupper(static_cast<unsigned char>(a)) ==
           std::toupper(static_cast<unsigned char>(b));
  };
  for (const DataTypeInfo& entry : kTypes) {
    if (std::ranges::equal(entry.name, name, same)) return entry.type;
  }
  return std::nullopt;
}

std::uint64_t row_bytes(DataType type, std::uint64_t columns) {
  const DataTypeInfo& entry = info(type);
  return columns / entry.block_size * entry.block_bytes;
}

std::uint64_t Tensor::element_count() const {
  std::uint64_t count = 1;
  for (const std::uint64_t size : shape) count *= size;
  return count;
}

std::string shape_text(std::span<const std::uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace gander
