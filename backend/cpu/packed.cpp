#include "backend/cpu/packed.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "model/quant/blocks.h"

namespace gander {

namespace {

// The levels of a (sub-)tile, row by row, before they are put in line order.
template <typename Tile>
using Levels = std::uint8_t[Tile::kRows][Tile::kColumns];

// Where a weight lies among the lines of a tile of Rows rows.
struct Place {
  std::size_t line, half, byte;
};

template <std::size_t Rows>
Place place(std::size_t row, std::size_t column) {
  const std::size_t half = row / (Rows / 2);
  if constexpr (Rows == kRowTile) return {column / 4, half, row % 16 * 4 + column % 4};
  return {column, half, row % 16 * 4 + row % 64 / 16};
}

// Four bits of every level: the low nibble for the first half of the rows, the high one for the
// other.
template <typename Tile>
void pack_nibbles(const Levels<Tile>& levels, Tile& tile) {
  for (std::size_t row = 0; row < Tile::kRows; ++row) {
    for (std::size_t column = 0; column < Tile::kColumns; ++column) {
      const Place at = place<Tile::kRows>(row, column);
      tile.q[at.line][at.byte] |=
          static_cast<std::uint8_t>((levels[row][column] & 15) << (4 * at.half));
    }
  }
}

// The `bits` bits of every level above the low four, several lines to one.
template <typename Tile>
void pack_high_bits(const Levels<Tile>& levels, std::size_t bits, Tile& tile) {
  const std::size_t sharing = 4 / bits;  // lines that share one
  for (std::size_t row = 0; row < Tile::kRows; ++row) {
    for (std::size_t column = 0; column < Tile::kColumns; ++column) {
      const Place at = place<Tile::kRows>(row, column);
      const std::size_t field = 2 * (at.line % sharing) + at.half;
      tile.high[at.line / sharing][at.byte] |=
          static_cast<std::uint8_t>((levels[row][column] >> 4) << (field * bits));
    }
  }
}

template <std::size_t Rows>
void pack_row(const BlockQ8_0& block, std::size_t row, TileQ8_0<Rows>& tile,
              Levels<TileQ8_0<Rows>>&) {
  tile.d[row] = block.d;
  for (std::size_t column = 0; column < 32; ++column) {
    const Place at = place<Rows>(row, column);
    tile.q[at.line][at.half][at.byte] = static_cast<std::uint8_t>(block.q[column] + 128);
  }
}
template <std::size_t Rows>
void pack_lines(const Levels<TileQ8_0<Rows>>&, TileQ8_0<Rows>&) {}

template <std::size_t Rows>
void pack_row(const BlockQ4_0& block, std::size_t row, TileQ4_0<Rows>& tile,
              Levels<TileQ4_0<Rows>>& levels) {
  tile.d[row] = block.d;
  for (std::size_t i = 0; i < 16; ++i) {
    levels[row][i] = block.nibbles[i] & 15;
    levels[row][i + 16] = block.nibbles[i] >> 4;
  }
}
template <std::size_t Rows>
void pack_lines(const Levels<TileQ4_0<Rows>>& levels, TileQ4_0<Rows>& tile) {
  pack_nibbles(levels, tile);
}

// What Q4_K and Q5_K share: scales and the low four bits.
template <typename Block, typename Tile>
void pack_groups(const Block& block, std::size_t row, Tile& tile, Levels<Tile>& levels) {
  tile.d[row] = block.d;
  tile.dmin[row] = block.dmin;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum pair = scale_and_minimum(block.scales, group);
    tile.scale[group][row] = pair.scale;
    tile.minimum[group][row] = pair.minimum;
    const std::uint8_t* nibbles = block.nibbles + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) {
      levels[row][32 * group + i] = (nibbles[i] >> (4 * (group % 2))) & 15;
    }
  }
}

template <std::size_t Rows>
void pack_row(const BlockQ4_K& block, std::size_t row, TileQ4_K<Rows>& tile,
              Levels<TileQ4_K<Rows>>& levels) {
  pack_groups(block, row, tile, levels);
}
template <std::size_t Rows>
void pack_lines(const Levels<TileQ4_K<Rows>>& levels, TileQ4_K<Rows>& tile) {
  pack_nibbles(levels, tile);
}

template <std::size_t Rows>
void pack_row(const BlockQ5_K& block, std::size_t row, TileQ5_K<Rows>& tile,
              Levels<TileQ5_K<Rows>>& levels) {
  pack_groups(block, row, tile, levels);
  for (int i = 0; i < 256; ++i) {
    levels[row][i] |= static_cast<std::uint8_t>(((block.high[i % 32] >> (i / 32)) & 1) << 4);
  }
}
template <std::size_t Rows>
void pack_lines(const Levels<TileQ5_K<Rows>>& levels, TileQ5_K<Rows>& tile) {
  pack_nibbles(levels, tile);
  pack_high_bits(levels, 1, tile);
}

template <std::size_t Rows>
void pack_row(const BlockQ6_K& block, std::size_t row, TileQ6_K<Rows>& tile,
              Levels<TileQ6_K<Rows>>& levels) {
  tile.d[row] = block.d;
  for (int group = 0; group < 16; ++group) tile.scale[group][row] = block.scales[group];
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int quarter = i % 128 / 32;
    const int low = block.low[64 * half + 32 * (quarter % 2) + i % 32] >> (4 * (quarter / 2));
    const int high = block.high[32 * half + i % 32] >> (2 * quarter);
    levels[row][i] = static_cast<std::uint8_t>((low & 15) | ((high & 3) << 4));
  }
}
template <std::size_t Rows>
void pack_lines(const Levels<TileQ6_K<Rows>>& levels, TileQ6_K<Rows>& tile) {
  pack_nibbles(levels, tile);
  pack_high_bits(levels, 2, tile);
}

template <typename Block, typename Tile>
void pack(const Matrix& matrix, const PackedMatrix& packed, std::size_t index) {
  const std::size_t rows = std::min(Tile::kRows, matrix.rows - index * Tile::kRows);
  for (std::size_t sub = 0; sub < packed.sub_tiles; ++sub) {
    Tile& tile = *new (packed.tile(index) + sub * sizeof(Tile)) Tile{};
    Levels<Tile> levels = {};
    for (std::size_t row = 0; row < rows; ++row) {
      const std::byte* source = matrix.row(index * Tile::kRows + row) + sub * sizeof(Block);
      pack_row(*reinterpret_cast<const Block*>(source), row, tile, levels);
    }
    pack_lines(levels, tile);
  }
}

template <typename Number>
void pack_floats(const Matrix& matrix, const PackedMatrix& packed, std::size_t index) {
  auto* tile = reinterpret_cast<Number*>(packed.tile(index));
  const std::size_t rows = std::min(kRowTile, matrix.rows - index * kRowTile);
  std::fill_n(tile, matrix.columns * kRowTile, Number{});
  for (std::size_t row = 0; row < rows; ++row) {
    const std::byte* source = matrix.row(index * kRowTile + row);
    for (std::size_t column = 0; column < matrix.columns; ++column) {
      std::memcpy(tile + column * kRowTile + row, source + column * sizeof(Number), sizeof(Number));
    }
  }
}

template <std::size_t Rows>
std::size_t sub_tile_size(DataType type) {
  switch (type) {
    case DataType::Q8_0:
      return sizeof(TileQ8_0<Rows>);
    case DataType::Q4_0:
      return sizeof(TileQ4_0<Rows>);
    case DataType::Q4_K:
      return sizeof(TileQ4_K<Rows>);
    case DataType::Q5_K:
      return sizeof(TileQ5_K<Rows>);
    case DataType::Q6_K:
      return sizeof(TileQ6_K<Rows>);
    default:
      return Rows * info(type).block_bytes;
  }
}

template <std::size_t Rows>
void pack_tile_of(const Matrix& matrix, const PackedMatrix& packed, std::size_t index) {
  switch (matrix.type) {
    case DataType::Q8_0:
      return pack<BlockQ8_0, TileQ8_0<Rows>>(matrix, packed, index);
    case DataType::Q4_0:
      return pack<BlockQ4_0, TileQ4_0<Rows>>(matrix, packed, index);
    case DataType::Q4_K:
      return pack<BlockQ4_K, TileQ4_K<Rows>>(matrix, packed, index);
    case DataType::Q5_K:
      return pack<BlockQ5_K, TileQ5_K<Rows>>(matrix, packed, index);
    case DataType::Q6_K:
      return pack<BlockQ6_K, TileQ6_K<Rows>>(matrix, packed, index);
    default:
      return;
  }
}

}  // namespace

bool is_quantized(DataType type) {
  return info(type).block_size > 1;
}

PackedMatrix describe_packed(const Matrix& matrix, std::size_t tile_rows) {
  PackedMatrix packed;
  packed.type = matrix.type;
  packed.rows = matrix.rows;
  packed.columns = matrix.columns;
  packed.tile_rows = is_quantized(matrix.type) ? tile_rows : kRowTile;
  packed.tiles = (matrix.rows + packed.tile_rows - 1) / packed.tile_rows;
  packed.sub_tiles = matrix.columns / info(matrix.type).block_size;
  packed.sub_tile_size = packed.tile_rows == kRowTile ? sub_tile_size<kRowTile>(matrix.type)
                                                      : sub_tile_size<kColumnTile>(matrix.type);
  return packed;
}

void pack_tile(const Matrix& matrix, const PackedMatrix& packed, std::size_t index) {
  if (info(matrix.type).block_bytes == 2) {
    pack_floats<std::uint16_t>(matrix, packed, index);
  } else if (matrix.type == DataType::F32) {
    pack_floats<float>(matrix, packed, index);
  } else if (packed.tile_rows == kRowTile) {
    pack_tile_of<kRowTile>(matrix, packed, index);
  } else {
    pack_tile_of<kColumnTile>(matrix, packed, index);
  }
}

}  // namespace gander
