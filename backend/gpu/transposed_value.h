#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/weights.h"

// The ffn value matrix [C, F] by hidden unit, as stage E reads it: kernels/README.md has the
// layout. Levels and scales are those of the file, bit for bit.
namespace gander::gpu {

/// Bytes of a transposed matrix with `rows` channels and `columns` hidden units.
std::uint64_t transposed_value_bytes(DataType type, std::uint32_t rows, std::uint32_t columns);

/// Transposes hidden units `begin` to `end` - 1, which are whole blocks of 256 or end at the last
/// unit. `out` is the whole transposed matrix, transposed_value_bytes long; calls for different
/// units may run at the same time. Bytes between the parts of `out` are left as they are.
void transpose_value(const Matrix& value, std::uint32_t begin, std::uint32_t end,
                     std::span<std::byte> out);

/// All of it.
void transpose_value(const Matrix& value, std::span<std::byte> out);

}  // namespace gander::gpu
