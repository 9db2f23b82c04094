#include "backend/gpu/transposed_value.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/gpu/round_up.h"
#include "model/quant/blocks.h"

namespace gander::gpu {

namespace {

// An array [F / units][P] of `bits` a channel. Parts follow each other at multiples of 256 bytes.
struct Part {
  std::uint32_t units = 0;  // 0: there is no such part
  std::uint32_t bits = 0;
};

using Parts = std::array<Part, 4>;

Parts parts_of(DataType type) {
  switch (type) {
    case DataType::F32:
      return {{{1, 32}}};
    case DataType::F16:
    case DataType::BF16:
      return {{{1, 16}}};
    case DataType::Q8_0:
      return {{{1, 8}, {32, 16}}};
    case DataType::Q4_0:
      return {{{1, 4}, {32, 16}}};
    case DataType::Q4_K:
      return {{{1, 4}, {32, 16}, {256, 32}}};
    case DataType::Q5_K:
      return {{{1, 4}, {1, 1}, {32, 16}, {256, 32}}};
    case DataType::Q6_K:
      return {{{1, 4}, {1, 2}, {16, 8}, {256, 16}}};
  }
  return {};
}

std::uint64_t part_bytes(const Part& part, std::uint32_t padded, std::uint32_t columns) {
  if (part.units == 0) return 0;
  const std::uint64_t bytes = std::uint64_t{columns / part.units} * (padded / 8 * part.bits);
  return (bytes + 255) / 256 * 256;
}

// Where the parts of a piece of a transposed matrix are.
class Target {
 public:
  Target(const Matrix& value, Units piece, std::span<std::byte> out)
      : parts_(parts_of(value.type)), padded_(round_up(value.rows, 256)), first_(piece.begin) {
    std::byte* at = out.data();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      begins_[i] = at;
      at += part_bytes(parts_[i], padded_, piece.end - piece.begin);
    }
  }

  std::size_t row_size(std::size_t part) const { return padded_ / 8 * parts_[part].bits; }

  // The row of a part that holds `unit`.
  std::byte* row(std::size_t part, std::uint32_t unit) const {
    return begins_[part] + (unit - first_) / parts_[part].units * row_size(part);
  }

  template <typename T>
  void store(std::size_t part, std::uint32_t unit, std::uint32_t channel, T value) const {
    std::memcpy(row(part, unit) + channel * sizeof(T), &value, sizeof(T));
  }

  void clear(std::uint32_t begin, std::uint32_t end) const {
    for (std::size_t part = 0; part < parts_.size() && parts_[part].units > 0; ++part) {
      for (std::uint32_t unit = begin; unit < end; unit += parts_[part].units) {
        std::memset(row(part, unit), 0, row_size(part));
      }
    }
  }

 private:
  Parts parts_;
  std::uint32_t padded_;
  std::uint32_t first_;  // unit
  std::array<std::byte*, 4> begins_ = {};
};

constexpr std::uint32_t kTileUnits = 256;
constexpr std::uint32_t kTileChannels = 128;

// Levels of a tile, a byte each: a row of units for each channel.
using Levels = std::uint8_t[kTileChannels][kTileUnits];

struct Tile {
  std::uint32_t unit = 0;     // the first one
  std::uint32_t channel = 0;  // the first one
  std::uint32_t units = 0;    // at most kTileUnits
  std::uint32_t channels = 0;
  alignas(64) Levels low;    // the lowest four bits, or all eight
  alignas(64) Levels upper;  // what Q5_K and Q6_K have above those
};

// Unpacks a channel's blocks: levels into the tile's row `i`, scales where they belong.
void unpack(const BlockQ8_0* blocks, Tile& tile, std::uint32_t i, const Target& target) {
  for (std::uint32_t u = 0; u < tile.units; u += 32, ++blocks) {
    std::memcpy(tile.low[i] + u, blocks->q, 32);
    target.store(1, tile.unit + u, tile.channel + i, std::uint16_t{blocks->d});
  }
}

void unpack(const BlockQ4_0* blocks, Tile& tile, std::uint32_t i, const Target& target) {
  for (std::uint32_t u = 0; u < tile.units; u += 32, ++blocks) {
    std::uint8_t* levels = tile.low[i] + u;
    for (int j = 0; j < 16; ++j) {
      levels[j] = blocks->nibbles[j] & 15;
      levels[j + 16] = blocks->nibbles[j] >> 4;
    }
    target.store(1, tile.unit + u, tile.channel + i, std::uint16_t{blocks->d});
  }
}

// Nibbles and scales of Q4_K and Q5_K; `pairs` is the part of scales and minimums, before d.
template <typename Block>
void unpack_pairs(const Block& block, Tile& tile, std::uint32_t i, const Target& target,
                  std::size_t pairs) {
  const std::uint32_t channel = tile.channel + i;
  for (int pair = 0; pair < 4; ++pair) {
    std::uint8_t* levels = tile.low[i] + 64 * pair;
    for (int j = 0; j < 32; ++j) {
      levels[j] = block.nibbles[32 * pair + j] & 15;
      levels[j + 32] = block.nibbles[32 * pair + j] >> 4;
    }
  }
  for (std::uint32_t group = 0; group < 8; ++group) {
    target.store(pairs, tile.unit + 32 * group, channel,
                 scale_and_minimum(block.scales, static_cast<int>(group)));
  }
  target.store(pairs + 1, tile.unit, channel, std::array<std::uint16_t, 2>{block.d, block.dmin});
}

void unpack(const BlockQ4_K* block, Tile& tile, std::uint32_t i, const Target& target) {
  unpack_pairs(*block, tile, i, target, 1);
}

void unpack(const BlockQ5_K* block, Tile& tile, std::uint32_t i, const Target& target) {
  unpack_pairs(*block, tile, i, target, 2);
  for (int group = 0; group < 8; ++group) {
    std::uint8_t* upper = tile.upper[i] + 32 * group;
    for (int j = 0; j < 32; ++j) upper[j] = (block->high[j] >> group) & 1;
  }
}

void unpack(const BlockQ6_K* block, Tile& tile, std::uint32_t i, const Target& target) {
  const std::uint32_t channel = tile.channel + i;
  for (int quarter = 0; quarter < 8; ++quarter) {  // four in each half of 128
    const std::uint8_t* nibbles = block->low + 64 * (quarter / 4) + 32 * (quarter % 2);
    const std::uint8_t* pairs = block->high + 32 * (quarter / 4);
    std::uint8_t* low = tile.low[i] + 32 * quarter;
    std::uint8_t* upper = tile.upper[i] + 32 * quarter;
    const int shift = quarter % 4 < 2 ? 0 : 4;
    for (int j = 0; j < 32; ++j) {
      low[j] = (nibbles[j] >> shift) & 15;
      upper[j] = (pairs[j] >> (2 * (quarter % 4))) & 3;
    }
  }
  for (std::uint32_t group = 0; group < 16; ++group) {
    target.store(2, tile.unit + 16 * group, channel, block->scales[group]);
  }
  target.store(3, tile.unit, channel, std::uint16_t{block->d});
}

// Packs the tile's levels, kBits each, into words of 32 / kBits channels, and stores those by unit.
// Loops run over units first, bytes only, so that compilers vectorise them.
template <std::uint32_t kBits>
void store_levels(const Levels& levels, const Tile& tile, const Target& target, std::size_t part) {
  constexpr std::uint32_t kInByte = 8 / kBits;
  constexpr std::uint32_t kInWord = 32 / kBits;
  constexpr std::uint32_t kWords = kTileChannels / kInWord;
  alignas(64) std::uint8_t words[kWords][kTileUnits][4];
  for (std::uint32_t word = 0; word < kWords; ++word) {
    alignas(64) std::uint8_t bytes[4][kTileUnits];
    for (std::uint32_t byte = 0; byte < 4; ++byte) {
      const std::uint8_t(*rows)[kTileUnits] = levels + word * kInWord + byte * kInByte;
      std::memcpy(bytes[byte], rows[0], kTileUnits);
      for (std::uint32_t i = 1; i < kInByte; ++i) {
        for (std::uint32_t u = 0; u < kTileUnits; ++u) {
          bytes[byte][u] |= static_cast<std::uint8_t>(rows[i][u] << (kBits * i));
        }
      }
    }
    for (std::uint32_t u = 0; u < kTileUnits; ++u) {
      for (std::uint32_t byte = 0; byte < 4; ++byte) words[word][u][byte] = bytes[byte][u];
    }
  }
  for (std::uint32_t u = 0; u < tile.units; ++u) {
    std::byte* row = target.row(part, tile.unit + u) + tile.channel / kInWord * 4;
    for (std::uint32_t word = 0; word < kWords; ++word) {
      std::memcpy(row + 4 * word, words[word][u], 4);
    }
  }
}

void store_levels(DataType type, const Tile& tile, const Target& target) {
  if (type == DataType::Q8_0) {
    store_levels<8>(tile.low, tile, target, 0);
  } else {
    store_levels<4>(tile.low, tile, target, 0);
  }
  if (type == DataType::Q5_K) store_levels<1>(tile.upper, tile, target, 1);
  if (type == DataType::Q6_K) store_levels<2>(tile.upper, tile, target, 1);
}

template <typename Block>
void transpose_blocks(const Matrix& value, Tile& tile, const Target& target) {
  const std::size_t offset = row_bytes(value.type, tile.unit);
  for (std::uint32_t i = 0; i < tile.channels; ++i) {
    const std::byte* row = value.row(tile.channel + i) + offset;
    unpack(reinterpret_cast<const Block*>(row), tile, i, target);
  }
  // Channels that pad.
  for (std::uint32_t i = tile.channels; i < kTileChannels; ++i) {
    std::memset(tile.low[i], 0, kTileUnits);
    std::memset(tile.upper[i], 0, kTileUnits);
  }
  store_levels(value.type, tile, target);
}

// Through a small copy: rows of large matrices are often a power of two apart, and then a cache
// holds few of them at once.
template <typename Float>
void transpose_floats(const Matrix& value, const Tile& tile, const Target& target) {
  constexpr std::uint32_t kUnits = 32;
  Float copy[kTileChannels][kUnits];
  for (std::uint32_t begin = 0; begin < tile.units; begin += kUnits) {
    const std::uint32_t units = std::min(kUnits, tile.units - begin);
    for (std::uint32_t i = 0; i < tile.channels; ++i) {
      const std::byte* row = value.row(tile.channel + i) + (tile.unit + begin) * sizeof(Float);
      std::memcpy(copy[i], row, units * sizeof(Float));
    }
    for (std::uint32_t u = 0; u < units; ++u) {
      Float row[kTileChannels];
      for (std::uint32_t i = 0; i < tile.channels; ++i) row[i] = copy[i][u];
      std::memcpy(target.row(0, tile.unit + begin + u) + tile.channel * sizeof(Float), row,
                  tile.channels * sizeof(Float));
    }
  }
}

void transpose_tile(const Matrix& value, Tile& tile, const Target& target) {
  switch (value.type) {
    case DataType::F32:
      return transpose_floats<std::uint32_t>(value, tile, target);
    case DataType::F16:
    case DataType::BF16:
      return transpose_floats<std::uint16_t>(value, tile, target);
    case DataType::Q8_0:
      return transpose_blocks<BlockQ8_0>(value, tile, target);
    case DataType::Q4_0:
      return transpose_blocks<BlockQ4_0>(value, tile, target);
    case DataType::Q4_K:
      return transpose_blocks<BlockQ4_K>(value, tile, target);
    case DataType::Q5_K:
      return transpose_blocks<BlockQ5_K>(value, tile, target);
    case DataType::Q6_K:
      return transpose_blocks<BlockQ6_K>(value, tile, target);
  }
}

}  // namespace

std::uint64_t transposed_value_bytes(DataType type, std::uint32_t rows, std::uint32_t columns) {
  std::uint64_t bytes = 0;
  for (const Part& part : parts_of(type)) bytes += part_bytes(part, round_up(rows, 256), columns);
  return bytes;
}

void transpose_value(const Matrix& value, Units units, Units piece, std::span<std::byte> out) {
  const Target target(value, piece, out);
  if (value.rows % 256 != 0) target.clear(units.begin, units.end);  // channels that pad
  Tile tile = {};
  for (tile.unit = units.begin; tile.unit < units.end; tile.unit += kTileUnits) {
    tile.units = std::min(kTileUnits, units.end - tile.unit);
    for (tile.channel = 0; tile.channel < value.rows; tile.channel += kTileChannels) {
      tile.channels = std::min(kTileChannels, value.rows - tile.channel);
      transpose_tile(value, tile, target);
    }
  }
}

std::vector<ByteRange> places_of_piece(const Matrix& value, Units piece) {
  const std::uint32_t padded = round_up(value.rows, 256);
  std::vector<ByteRange> places;
  std::uint64_t begin = 0;  // of the part in the whole matrix
  for (const Part& part : parts_of(value.type)) {
    if (part.units == 0) break;
    places.push_back({begin + part_bytes(part, padded, piece.begin),
                      part_bytes(part, padded, piece.end - piece.begin)});
    begin += part_bytes(part, padded, value.columns);
  }
  return places;
}

void transpose_value(const Matrix& value, std::span<std::byte> out) {
  const Units all = {0, value.columns};
  transpose_value(value, all, all, out);
}

}  // namespace gander::gpu
