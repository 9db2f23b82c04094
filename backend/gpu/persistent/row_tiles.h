#pragma once

#include <cstdint>
#include <span>

#include "model/weights.h"

// Quantised matrices as the token kernel multiplies them (kernels/persistent/tiles.h): tiles of 16
// rows and 256 columns, whose parts lie as the lanes of a SIMD group read them. Levels and scales
// are those of the file, bit for bit.
namespace gander::gpu {

inline constexpr std::uint32_t kTileRows = 16;
inline constexpr std::uint32_t kTileColumns = 256;

/// Bytes of a tile, a multiple of 16; 0 for floats, which have none.
std::uint32_t tile_bytes(DataType type);

/// Bytes of the matrix, whose columns are a multiple of 256; the last tiles are padded with zeros.
std::uint64_t row_tiles_bytes(const Matrix& matrix);

/// Tiles of rows `begin` (a multiple of 16) to `end` - 1, those of the first 16 rows first; `out`
/// has their bytes.
void to_row_tiles(const Matrix& matrix, std::uint32_t begin, std::uint32_t end,
                  std::span<std::byte> out);

}  // namespace gander::gpu
