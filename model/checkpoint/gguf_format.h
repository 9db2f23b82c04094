#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "model/tensor.h"

// What the GGUF reader and writer share: the numbers of the format.
namespace gander {

/// How a metadata value is stored.
enum class GgufValueType : std::uint32_t {
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  F32,
  Bool,
  String,
  Array,
  U64,
  I64,
  F64
};

struct GgmlType {
  std::uint32_t number;
  std::string_view name;
  std::optional<DataType> type;  ///< nothing: gander does not compute with it
};

/// The tensor type of that number; null when unknown.
const GgmlType* find_ggml_type(std::uint32_t number);
/// The number a tensor type has in GGUF.
std::uint32_t ggml_number(DataType type);

inline constexpr std::uint32_t kGgufAlignment = 32;  ///< of tensor data, unless the file says

}  // namespace gander
