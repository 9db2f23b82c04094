#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "model/weights.h"

// Quantised matrices in the order in which the integer kernels read them.
//
// A tile is 32 rows by 256 columns (for Q8_0 and Q4_0 eight sub-tiles of 32 columns). Its weights
// lie in lines of 64 bytes: one line is a quad (four neighbouring columns) of 16 rows, row by row,
// so a 32-bit lane of a vector register holds four weights of one row, which one dot-product
// instruction multiplies by the same four activations. For 4-bit weights a line holds 32 rows: the
// first 16 in the low nibbles. A quad whose activations are all zero is skipped with its line.
//
// The matrix is stored 256 columns by 256 columns, tile after tile, so that one thread's rows are
// contiguous and the same activations serve many tiles in a row. Values are those of the file;
// sizes too, but for scales unpacked to bytes: 4.63 bits a weight for Q4_K against 4.5.
namespace gander {

inline constexpr std::size_t kTileRows = 32;

struct TileQ8_0 {
  std::uint16_t d[kTileRows];
  std::uint8_t q[8][2][64];  // [quad][16 rows each], stored as q + 128
};

struct TileQ4_0 {
  std::uint16_t d[kTileRows];
  std::uint8_t q[8][64];  // [quad]
};

struct TileQ4_K {
  std::uint16_t d[kTileRows], dmin[kTileRows];
  std::uint8_t scale[8][kTileRows], minimum[8][kTileRows];  // [group of 32 columns]
  std::uint8_t q[64][64];                                   // [quad]
};

struct TileQ5_K {
  std::uint16_t d[kTileRows], dmin[kTileRows];
  std::uint8_t scale[8][kTileRows], minimum[8][kTileRows];
  std::uint8_t q[64][64];
  /// Fifth bits: line i serves quads 4i to 4i + 3, bit 2 (quad % 4) + half of each byte.
  std::uint8_t high[16][64];
};

struct TileQ6_K {
  std::uint16_t d[kTileRows];
  std::int8_t scale[16][kTileRows];  // [group of 16 columns]
  std::uint8_t q[64][64];
  /// Upper bit pairs: line i serves quads 2i and 2i + 1, pair 2 (quad % 2) + half of each byte.
  std::uint8_t high[32][64];
};

/// Whether matrices of this type are packed; the others are used as they lie in the file.
bool is_packable(DataType type);

/// A packed matrix; owns its memory. Empty until packed.
struct PackedMatrix {
  DataType type = DataType::F32;
  std::size_t rows = 0, columns = 0;
  std::size_t tiles = 0;          ///< of a block of columns: rows / 32, rounded up
  std::size_t group_columns = 0;  ///< columns of a sub-tile: 256 or 32
  std::size_t sub_tile_size = 0;  ///< its bytes
  std::shared_ptr<std::byte> data;

  std::size_t blocks() const { return (columns + 255) / 256; }
  /// Sub-tiles of each tile of a block: fewer in the last block.
  std::size_t sub_tiles(std::size_t block) const {
    const std::size_t left = columns - 256 * block;
    return (left < 256 ? left : 256) / group_columns;
  }
  std::byte* tile(std::size_t block, std::size_t tile) const {
    const std::size_t before = block * tiles * (256 / group_columns) + tile * sub_tiles(block);
    return data.get() + before * sub_tile_size;
  }
};

/// Allocates for a matrix; pack_tiles fills it. Rows that fill up the last tile are zero.
PackedMatrix allocate_packed(const Matrix& matrix);
/// Packs tiles begin..end of every block of columns: threads may share the work.
void pack_tiles(const Matrix& matrix, const PackedMatrix& packed, std::size_t begin,
                std::size_t end);

}  // namespace gander
