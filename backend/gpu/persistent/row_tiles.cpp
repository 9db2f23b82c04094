#include "backend/gpu/persistent/row_tiles.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "model/quant/blocks.h"

namespace gander::gpu {
namespace {

constexpr std::size_t kNibbleBytes = 2048;  // of a tile: four lines of 32 lanes, 16 bytes each

/// A row of a tile: its first lane in the lines of rows g and of rows g + 8.
struct Row {
  explicit Row(std::uint32_t row) : upper(row / 8), lane(4 * (row % 8)) {}

  std::size_t upper;  ///< 0 for rows g, 1 for rows g + 8
  std::size_t lane;   ///< of the row's four
};

/// Bytes 4 t to 4 t + 3 of 32 and those 16 later go to two words of lane t.
constexpr std::size_t lane_of(std::size_t byte) {
  return byte % 16 / 4;
}

// Nibbles: a lane's four words of a half tile are two of the first 32 bytes of the file's and two
// of the next 32. `bytes` are 128: 32 for each 64 columns, as Q4_K has them.
void pack_nibbles(const std::uint8_t* bytes, Row row, std::byte* tile) {
  for (std::size_t i = 0; i < 128; i += 4) {
    const std::size_t half = i / 64, line = 2 * half + row.upper;
    const std::size_t word = i % 64 / 32 * 2 + i % 32 / 16;
    std::memcpy(tile + 512 * line + 16 * (row.lane + lane_of(i)) + 4 * word, bytes + i, 4);
  }
}

// A word of each lane of a row, at `words`.
void put_word(std::byte* words, Row row, std::size_t t, std::uint32_t value) {
  std::memcpy(words + 4 * (32 * row.upper + row.lane + t), &value, sizeof value);
}

void put_row(std::byte* words, std::uint32_t row, std::uint32_t value) {
  std::memcpy(words + 4 * row, &value, sizeof value);
}

// Scales and minimums of Q4_K and Q5_K: lane t's word has those of runs t and t + 4; then a word of
// d and dmin for each row.
void pack_scales(std::uint16_t d, std::uint16_t dmin, const std::uint8_t* packed, std::uint32_t row,
                 std::byte* scales) {
  for (int t = 0; t < 4; ++t) {
    const ScaleAndMinimum first = scale_and_minimum(packed, t);
    const ScaleAndMinimum second = scale_and_minimum(packed, t + 4);
    put_word(scales, Row(row), static_cast<std::size_t>(t),
             first.scale | static_cast<std::uint32_t>(first.minimum) << 8U |
                 static_cast<std::uint32_t>(second.scale) << 16U |
                 static_cast<std::uint32_t>(second.minimum) << 24U);
  }
  put_row(scales + 256, row, d | static_cast<std::uint32_t>(dmin) << 16U);
}

void pack_q4_k(const std::byte* from, std::uint32_t row, std::byte* tile) {
  const auto& block = *reinterpret_cast<const BlockQ4_K*>(from);
  pack_nibbles(block.nibbles, Row(row), tile);
  pack_scales(block.d, block.dmin, block.scales, row, tile + kNibbleBytes);
}

void pack_q5_k(const std::byte* from, std::uint32_t row, std::byte* tile) {
  const auto& block = *reinterpret_cast<const BlockQ5_K*>(from);
  pack_nibbles(block.nibbles, Row(row), tile);
  const Row place(row);
  for (std::size_t half = 0; half < 2; ++half) {
    std::array<std::uint32_t, 4> bits = {};
    for (std::size_t run = 0; run < 4; ++run) {
      for (std::size_t i = 0; i < 32; ++i) {
        const std::uint32_t fifth = block.high[i] >> (4 * half + run) & 1U;
        bits[lane_of(i)] |= fifth << (8 * (i % 4) + 7 - (2 * run + i / 16));
      }
    }
    for (std::size_t t = 0; t < 4; ++t) {
      put_word(tile + kNibbleBytes + 256 * half, place, t, bits[t]);
    }
  }
  pack_scales(block.d, block.dmin, block.scales, row, tile + kNibbleBytes + 512);
}

// Level of a column, 0 to 63: BlockQ6_K tells where its bits are.
unsigned level_q6_k(const BlockQ6_K& block, std::size_t column) {
  const std::size_t half = column / 128, quarter = column / 32 % 4, i = column % 32;
  const unsigned low = block.low[64 * half + 32 * (quarter % 2) + i];
  const unsigned high = block.high[32 * half + i];
  return (quarter < 2 ? low & 15U : low >> 4U) | (high >> (2 * quarter) & 3U) << 4U;
}

// The levels less 32, as six bits of two's complement: the upper two with the fourth bit turned.
void pack_q6_k(const std::byte* from, std::uint32_t row, std::byte* tile) {
  const auto& block = *reinterpret_cast<const BlockQ6_K*>(from);
  const Row place(row);
  std::array<std::uint8_t, 128> nibbles = {};
  std::array<std::uint32_t, 16> upper = {};  // [half][lane][64 columns]
  for (std::size_t column = 0; column < 256; ++column) {
    const unsigned level = level_q6_k(block, column) ^ 32U;
    const std::size_t run = column / 32 % 2, i = column % 32;
    nibbles[column / 64 * 32 + i] |= static_cast<std::uint8_t>((level & 15U) << (4 * run));
    const std::size_t word = column / 128 * 8 + 2 * lane_of(i) + column / 64 % 2;
    upper[word] |= (level >> 4U) << (8 * (i % 4) + 6 - (4 * run + 2 * (i / 16)));
  }
  pack_nibbles(nibbles.data(), place, tile);
  for (std::size_t half = 0; half < 2; ++half) {
    std::memcpy(tile + kNibbleBytes + 512 * half + 8 * (32 * place.upper + place.lane),
                upper.data() + 8 * half, 32);
  }
  std::byte* scales = tile + kNibbleBytes + 1024;
  for (std::size_t t = 0; t < 4; ++t) {
    std::uint32_t word = 0;
    for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      const auto scale = static_cast<std::uint8_t>(block.scales[4 * quarter + t]);
      word |= static_cast<std::uint32_t>(scale) << (8 * quarter);
    }
    put_word(scales, place, t, word);
  }
  put_row(scales + 256, row, block.d);
}

// Two d for each lane, of runs t and t + 4.
template <typename Block>
void pack_d(const Block* blocks, Row row, std::byte* scales) {
  for (std::size_t t = 0; t < 4; ++t) {
    put_word(scales, row, t, blocks[t].d | static_cast<std::uint32_t>(blocks[t + 4].d) << 16U);
  }
}

void pack_q4_0(const std::byte* from, std::uint32_t row, std::byte* tile) {
  const auto* blocks = reinterpret_cast<const BlockQ4_0*>(from);
  std::array<std::uint8_t, 128> nibbles = {};
  for (std::size_t column = 0; column < 256; ++column) {
    const unsigned byte = blocks[column / 32].nibbles[column % 16];
    const unsigned level = column % 32 < 16 ? byte & 15U : byte >> 4U;
    nibbles[column / 64 * 32 + column % 32] |=
        static_cast<std::uint8_t>(level << (column / 32 % 2 * 4));
  }
  pack_nibbles(nibbles.data(), Row(row), tile);
  pack_d(blocks, Row(row), tile + kNibbleBytes);
}

// Lines of the runs 0 and 1 of a half tile, then 2 and 3.
void pack_q8_0(const std::byte* from, std::uint32_t row, std::byte* tile) {
  const auto* blocks = reinterpret_cast<const BlockQ8_0*>(from);
  const Row place(row);
  for (std::size_t column = 0; column < 256; column += 4) {
    const std::size_t half = column / 128, pair = column / 64 % 2, i = column % 32;
    const std::size_t line = 4 * half + 2 * place.upper + pair;
    const std::size_t word = column / 32 % 2 * 2 + i / 16;
    std::memcpy(tile + 512 * line + 16 * (place.lane + lane_of(i)) + 4 * word,
                blocks[column / 32].q + i, 4);
  }
  pack_d(blocks, place, tile + 4096);
}

using Pack = void (*)(const std::byte* from, std::uint32_t row, std::byte* tile);

struct Format {
  std::uint32_t bytes = 0;  ///< of a tile
  Pack pack = nullptr;
};

Format format_of(DataType type) {
  switch (type) {
    case DataType::Q8_0:
      return {kTileRows * 272, pack_q8_0};
    case DataType::Q4_0:
      return {kTileRows * 144, pack_q4_0};
    case DataType::Q4_K:
      return {kTileRows * 148, pack_q4_k};
    case DataType::Q5_K:
      return {kTileRows * 180, pack_q5_k};
    case DataType::Q6_K:
      return {kTileRows * 212, pack_q6_k};
    default:
      return {};
  }
}

}  // namespace

std::uint32_t tile_bytes(DataType type) {
  return format_of(type).bytes;
}

std::uint64_t row_tiles_bytes(const Matrix& matrix) {
  const std::uint64_t items = (matrix.rows + kTileRows - 1) / kTileRows;
  return items * (matrix.columns / kTileColumns) * tile_bytes(matrix.type);
}

void to_row_tiles(const Matrix& matrix, std::uint32_t begin, std::uint32_t end,
                  std::span<std::byte> out) {
  const Format format = format_of(matrix.type);
  const std::uint64_t stored = row_bytes(matrix.type, kTileColumns);
  const std::uint32_t tiles = matrix.columns / kTileColumns;
  std::ranges::fill(out, std::byte{});
  for (std::uint32_t row = begin; row < end; ++row) {
    std::byte* item = out.data() + std::uint64_t{(row - begin) / kTileRows} * tiles * format.bytes;
    for (std::uint32_t i = 0; i < tiles; ++i) {
      format.pack(matrix.row(row) + i * stored, row % kTileRows,
                  item + std::uint64_t{i} * format.bytes);
    }
  }
}

}  // namespace gander::gpu
