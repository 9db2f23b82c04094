#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/weights.h"

namespace gander::gpu {

std::uint64_t transposed_value_bytes(DataType type, std::uint32_t rows, std::uint32_t columns);
void transpose_value(const Matrix& value, std::span<std::byte> out);

}  // namespace gander::gpu
