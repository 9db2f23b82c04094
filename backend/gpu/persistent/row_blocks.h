#pragma once

#include <cstdint>
#include <span>

#include "model/weights.h"

// Rows of weights as the token kernel reads them (kernels/persistent/blocks.h): blocks of 256
// columns, each a multiple of 16 bytes. Levels and scales are those of the file, bit for bit.
namespace gander::gpu {

inline constexpr std::uint32_t kBlockColumns = 256;

/// Bytes of a block. Q6_K is padded; the other types take what they take in a file.
std::uint32_t row_block_bytes(DataType type);

/// Threads of a warp that share a block; a row is given as many or more.
std::uint32_t row_block_lanes(DataType type);

/// Rows `begin` to `end` - 1 of the matrix, whose columns are a multiple of 256; `out` has
/// row_block_bytes for each of their blocks.
void to_row_blocks(const Matrix& matrix, std::uint32_t begin, std::uint32_t end,
                   std::span<std::byte> out);

}  // namespace gander::gpu
