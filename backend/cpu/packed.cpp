#include "backend/cpu/packed.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "model/quant/blocks.h"

namespace gander {

namespace {

// Levels of `Columns` weights of 32 rows, before they are put in line order.
template <std::size_t Columns>
using Levels = std::uint8_t[kTileRows][Columns];

// Byte of a row and column within its line: see packed.h.
std::size_t lane_byte(std::size_t row, std::size_t column) {
  return row % 16 * 4 + column % 4;
}

// Four bits of every level: the low nibble for the first 16 rows, the high one for the others.
template <std::size_t Columns>
void pack_nibbles(const Levels<Columns>& levels, std::uint8_t (*lines)[64]) {
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < Columns; ++column) {
      lines[column / 4][lane_byte(row, column)] = static_cast<std::uint8_t>(
          (levels[row][column] & 15) | ((levels[row + 16][column] & 15) << 4));
    }
  }
}

// The `bits` bits of every level above the low four, several quads to a line.
void pack_high_bits(const Levels<256>& levels, std::size_t bits, std::uint8_t (*lines)[64]) {
  const std::size_t quads = 4 / bits;  // that share a line
  for (std::size_t row = 0; row < kTileRows; ++row) {
    for (std::size_t column = 0; column < 256; ++column) {
      const std::size_t quad = column / 4;
      const std::size_t field = 2 * (quad % quads) + row / 16;
      lines[quad / quads][lane_byte(row, column)] |=
          static_cast<std::uint8_t>((levels[row][column] >> 4) << (field * bits));
    }
  }
}

void pack_row(const BlockQ8_0& block, std::size_t row, TileQ8_0& tile, Levels<32>&) {
  tile.d[row] = block.d;
  for (std::size_t column = 0; column < 32; ++column) {
    tile.q[column / 4][row / 16][lane_byte(row, column)] =
        static_cast<std::uint8_t>(block.q[column] + 128);
  }
}
void pack_lines(const Levels<32>&, TileQ8_0&) {}

void pack_row(const BlockQ4_0& block, std::size_t row, TileQ4_0& tile, Levels<32>& levels) {
  tile.d[row] = block.d;
  for (std::size_t i = 0; i < 16; ++i) {
    levels[row][i] = block.nibbles[i] & 15;
    levels[row][i + 16] = block.nibbles[i] >> 4;
  }
}
void pack_lines(const Levels<32>& levels, TileQ4_0& tile) {
  pack_nibbles(levels, tile.q);
}

// What Q4_K and Q5_K share: scales and the low four bits.
template <typename Block, typename Tile>
void pack_groups(const Block& block, std::size_t row, Tile& tile, Levels<256>& levels) {
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

void pack_row(const BlockQ4_K& block, std::size_t row, TileQ4_K& tile, Levels<256>& levels) {
  pack_groups(block, row, tile, levels);
}
void pack_lines(const Levels<256>& levels, TileQ4_K& tile) {
  pack_nibbles(levels, tile.q);
}

void pack_row(const BlockQ5_K& block, std::size_t row, TileQ5_K& tile, Levels<256>& levels) {
  pack_groups(block, row, tile, levels);
  for (int i = 0; i < 256; ++i) {
    levels[row][i] |= static_cast<std::uint8_t>(((block.high[i % 32] >> (i / 32)) & 1) << 4);
  }
}
void pack_lines(const Levels<256>& levels, TileQ5_K& tile) {
  pack_nibbles(levels, tile.q);
  pack_high_bits(levels, 1, tile.high);
}

void pack_row(const BlockQ6_K& block, std::size_t row, TileQ6_K& tile, Levels<256>& levels) {
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
void pack_lines(const Levels<256>& levels, TileQ6_K& tile) {
  pack_nibbles(levels, tile.q);
  pack_high_bits(levels, 2, tile.high);
}

template <typename Block, typename Tile, std::size_t Columns>
void pack(const Matrix& matrix, const PackedMatrix& packed, std::size_t begin, std::size_t end) {
  for (std::size_t block = 0; block < packed.blocks(); ++block) {
    for (std::size_t index = begin; index < end; ++index) {
      const std::size_t rows = std::min(kTileRows, matrix.rows - index * kTileRows);
      for (std::size_t sub = 0; sub < packed.sub_tiles(block); ++sub) {
        Tile& tile = *new (packed.tile(block, index) + sub * sizeof(Tile)) Tile{};
        Levels<Columns> levels = {};
        const std::size_t column_block = block * (256 / Columns) + sub;
        for (std::size_t row = 0; row < rows; ++row) {
          const std::byte* source =
              matrix.row(index * kTileRows + row) + column_block * sizeof(Block);
          pack_row(*reinterpret_cast<const Block*>(source), row, tile, levels);
        }
        pack_lines(levels, tile);
      }
    }
  }
}

}  // namespace

bool is_packable(DataType type) {
  return info(type).block_size > 1;
}

PackedMatrix allocate_packed(const Matrix& matrix) {
  PackedMatrix packed;
  packed.type = matrix.type;
  packed.rows = matrix.rows;
  packed.columns = matrix.columns;
  packed.group_columns = info(matrix.type).block_size;
  switch (matrix.type) {
    case DataType::Q8_0:
      packed.sub_tile_size = sizeof(TileQ8_0);
      break;
    case DataType::Q4_0:
      packed.sub_tile_size = sizeof(TileQ4_0);
      break;
    case DataType::Q4_K:
      packed.sub_tile_size = sizeof(TileQ4_K);
      break;
    case DataType::Q5_K:
      packed.sub_tile_size = sizeof(TileQ5_K);
      break;
    case DataType::Q6_K:
      packed.sub_tile_size = sizeof(TileQ6_K);
      break;
    default:
      return {};
  }
  packed.tiles = (matrix.rows + kTileRows - 1) / kTileRows;
  const std::size_t size =
      matrix.columns / packed.group_columns * packed.tiles * packed.sub_tile_size;
  constexpr std::align_val_t kCacheLine{64};
  packed.data =
      std::shared_ptr<std::byte>(static_cast<std::byte*>(::operator new(size, kCacheLine)),
                                 [](std::byte* memory) { ::operator delete(memory, kCacheLine); });
  return packed;
}

void pack_tiles(const Matrix& matrix, const PackedMatrix& packed, std::size_t begin,
                std::size_t end) {
  switch (matrix.type) {
    case DataType::Q8_0:
      return pack<BlockQ8_0, TileQ8_0, 32>(matrix, packed, begin, end);
    case DataType::Q4_0:
      return pack<BlockQ4_0, TileQ4_0, 32>(matrix, packed, begin, end);
    case DataType::Q4_K:
      return pack<BlockQ4_K, TileQ4_K, 256>(matrix, packed, begin, end);
    case DataType::Q5_K:
      return pack<BlockQ5_K, TileQ5_K, 256>(matrix, packed, begin, end);
    case DataType::Q6_K:
      return pack<BlockQ6_K, TileQ6_K, 256>(matrix, packed, begin, end);
    default:
      return;
  }
}

}  // namespace gander
