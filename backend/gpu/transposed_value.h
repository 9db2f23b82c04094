#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"

// The ffn value matrix [C, F] by hidden unit, as stage E reads it: kernels/README.md has the
// layout. Levels and scales are those of the file, bit for bit.
namespace gander::gpu {

/// Bytes of a transposed matrix with `rows` channels and `columns` hidden units.
std::uint64_t transposed_value_bytes(DataType type, std::uint32_t rows, std::uint32_t columns);

/// Hidden units `begin` to `end` - 1: whole blocks of 256, or up to the last unit.
struct Units {
  std::uint32_t begin = 0, end = 0;
};

/// Transposes `units` into `out`, which is the transposed matrix of the units in `piece` alone:
/// transposed_value_bytes(type, rows, their number) long. Calls for different units may run at the
/// same time.
void transpose_value(const Matrix& value, Units units, Units piece, std::span<std::byte> out);

/// Where a piece goes in the whole transposed matrix: its parts, which follow each other in the
/// piece without gaps.
struct ByteRange {
  std::uint64_t offset = 0, size = 0;
};
std::vector<ByteRange> places_of_piece(const Matrix& value, Units piece);

/// All of it.
void transpose_value(const Matrix& value, std::span<std::byte> out);

}  // namespace gander::gpu
