#include "backend/gpu/persistent/row_blocks.h"

#include <cstring>

#include "model/quant/blocks.h"

namespace gander::gpu {
namespace {

// A lane of a block of nibbles has 32 columns: 16 that begin here, and the 16 that come 32 later.
constexpr std::uint32_t first_column(std::uint32_t lane) {
  return lane / 2 * 64 + lane % 2 * 16;
}

void pack_q8_0(const std::byte* from, std::byte* to) {
  const auto* blocks = reinterpret_cast<const BlockQ8_0*>(from);
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint16_t d = blocks[i].d;
    std::memcpy(to + 2 * i, &d, sizeof d);
    std::memcpy(to + 16 + 32 * i, blocks[i].q, 32);
  }
}

void pack_q4_0(const std::byte* from, std::byte* to) {
  const auto* blocks = reinterpret_cast<const BlockQ4_0*>(from);
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint16_t d = blocks[i].d;
    std::memcpy(to + 2 * i, &d, sizeof d);
  }
  const auto level = [&](std::uint32_t column) {
    const unsigned byte = blocks[column / 32].nibbles[column % 16];
    return column % 32 < 16 ? byte & 15U : byte >> 4U;
  };
  for (std::uint32_t lane = 0; lane < 8; ++lane) {
    for (std::uint32_t i = 0; i < 16; ++i) {
      const std::uint32_t column = first_column(lane) + i;
      to[16 + 16 * lane + i] = static_cast<std::byte>(level(column) | level(column + 32) << 4U);
    }
  }
}

// Level of a column, 0 to 63: BlockQ6_K tells where its bits are.
unsigned level_q6_k(const BlockQ6_K& block, std::uint32_t column) {
  const std::uint32_t half = column / 128, quarter = column / 32 % 4, i = column % 32;
  const unsigned low = block.low[64 * half + 32 * (quarter % 2) + i];
  const unsigned high = block.high[32 * half + i];
  return (quarter < 2 ? low & 15U : low >> 4U) | (high >> (2 * quarter) & 3U) << 4U;
}

// Scales in the lanes' order, nibbles, the upper bits of each lane's first 16 columns and then of
// its second ones (column 4 j + b in bits 2 j of byte b), d.
void pack_q6_k(const std::byte* from, std::byte* to) {
  const auto& block = *reinterpret_cast<const BlockQ6_K*>(from);
  std::memset(to, 0, row_block_bytes(DataType::Q6_K));
  for (std::uint32_t lane = 0; lane < 8; ++lane) {
    for (std::uint32_t second = 0; second < 2; ++second) {
      const std::uint32_t column = first_column(lane) + 32 * second;
      to[2 * lane + second] = static_cast<std::byte>(block.scales[column / 16]);
      for (std::uint32_t i = 0; i < 16; ++i) {
        const unsigned level = level_q6_k(block, column + i);
        to[16 + 16 * lane + i] |= static_cast<std::byte>((level & 15U) << 4U * second);
        to[144 + 8 * lane + 4 * second + i % 4] |=
            static_cast<std::byte>((level >> 4U) << 2U * (i / 4));
      }
    }
  }
  const std::uint16_t d = block.d;
  std::memcpy(to + 208, &d, sizeof d);
}

}  // namespace

std::uint32_t row_block_bytes(DataType type) {
  if (type == DataType::Q6_K) return 224;
  return static_cast<std::uint32_t>(row_bytes(type, kBlockColumns));
}

std::uint32_t row_block_lanes(DataType type) {
  switch (type) {
    case DataType::F32:
    case DataType::F16:
    case DataType::BF16:
      return 32;
    case DataType::Q8_0:
      return 16;
    default:
      return 8;
  }
}

void to_row_blocks(const Matrix& matrix, std::uint32_t begin, std::uint32_t end,
                   std::span<std::byte> out) {
  const std::byte* from = matrix.row(begin);
  const std::uint64_t stored = row_bytes(matrix.type, kBlockColumns);
  const std::uint32_t packed = row_block_bytes(matrix.type);
  const std::uint64_t blocks = std::uint64_t{end - begin} * (matrix.columns / kBlockColumns);
  void (*pack)(const std::byte*, std::byte*) = nullptr;
  if (matrix.type == DataType::Q8_0) pack = pack_q8_0;
  if (matrix.type == DataType::Q4_0) pack = pack_q4_0;
  if (matrix.type == DataType::Q6_K) pack = pack_q6_k;
  if (pack == nullptr) {
    std::memcpy(out.data(), from, blocks * stored);
    return;
  }
  for (std::uint64_t i = 0; i < blocks; ++i) pack(from + i * stored, out.data() + i * packed);
}

}  // namespace gander::gpu
