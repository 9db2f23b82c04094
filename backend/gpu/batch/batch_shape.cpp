#include "backend/gpu/batch/batch_shape.h"

#include <algorithm>
#include <array>
#include <bit>

#include "backend/gpu/batch/batch_parameters.h"
#include "backend/gpu/recorder.h"

namespace gander::gpu {
namespace {

// Blocks of 64 rows, parts and stages are those of the kernels in multiply_tensor.msl. Tiles begin
// at a multiple of 1 KB; at the end the sums lie in the same memory, with a gap after each token's.
constexpr ProductTile tensor_tile(std::uint32_t tokens, std::uint32_t blocks, std::uint32_t parts,
                                  std::uint32_t stages, std::string_view rows_kernel,
                                  std::string_view units_kernel) {
  const std::uint32_t rows = GANDER_BATCH_BLOCK_ROWS * blocks;
  const std::uint32_t ring = stages * parts * 128 * (rows + tokens);
  const std::uint32_t sums = tokens * (rows + 4) * 4;
  return {tokens,      rows,        128 * blocks * parts, 1024 + std::max(ring, sums),
          rows_kernel, units_kernel};
}

// Rows of a tile are 72 halves.
constexpr std::uint32_t simd_memory(std::uint32_t tokens) {
  return std::max((GANDER_BATCH_BLOCK_ROWS + tokens) * 144, GANDER_BATCH_BLOCK_ROWS * tokens * 4);
}

constexpr std::array<ProductTile, 5> kTensorTiles = {{
    tensor_tile(32, 1, 4, 3, "tensor_rows_32", "tensor_units_32"),
    tensor_tile(64, 1, 4, 2, "tensor_rows_64", "tensor_units_64"),
    tensor_tile(128, 1, 4, 2, "tensor_rows_128", "tensor_units_128"),
    tensor_tile(128, 2, 1, 4, "tensor_rows_128_wide", "tensor_units_128_wide"),
    tensor_tile(256, 2, 1, 4, "tensor_rows_256_wide", "tensor_units_256_wide"),
}};
constexpr std::array<ProductTile, 2> kSimdTiles = {{
    {16, 64, 128, simd_memory(16), "multiply_rows_16", "multiply_units_16"},
    {64, 64, 128, simd_memory(64), "multiply_rows_64", "multiply_units_64"},
}};

// From so many tokens on the widest tile has enough groups to keep all cores busy.
constexpr std::uint32_t kWidestFrom = 1024;

}  // namespace

BatchShape bucket_of(const BatchShape& exact) {
  return {std::bit_ceil(exact.rows), std::bit_ceil(exact.sequences),
          exact.logits > 0 ? std::bit_ceil(exact.logits) : 0, exact.best};
}

bool has_tiles(bool tensor, const DeviceInfo& info) {
  if (!tensor) return true;
  return std::ranges::any_of(kTensorTiles, [&](const ProductTile& tile) {
    return tile.group_memory <= info.max_group_memory;
  });
}

std::span<const std::uint32_t> telling_lengths(bool tensor) {
  static constexpr std::array<std::uint32_t, 4> kTensor = {8, 48, 100, 160};
  static constexpr std::array<std::uint32_t, 2> kSimd = {8, 40};
  if (tensor) return kTensor;
  return kSimd;
}

// The smallest that has room for all tokens, else the largest.
ProductTile tile_for(std::uint32_t tokens, bool tensor, const DeviceInfo& info) {
  if (!tensor) return tokens <= kSimdTiles[0].tokens ? kSimdTiles[0] : kSimdTiles[1];
  ProductTile chosen;
  for (const ProductTile& tile : kTensorTiles) {
    const bool too_wide = tile.tokens == 256 && tokens < kWidestFrom;
    if (tile.group_memory > info.max_group_memory || too_wide) continue;
    if (chosen.tokens < tokens) chosen = tile;
  }
  return chosen;
}

std::uint32_t slices_for(const Config& config, std::uint32_t columns) {
  constexpr std::uint32_t kEnough = 64, kGroups = 128, kLeastColumns = 768;
  const std::uint32_t tiles = groups_of(config.width, GANDER_BATCH_BLOCK_ROWS);
  if (tiles >= kEnough) return 1;
  return std::clamp(std::min(kGroups / tiles, columns / kLeastColumns), 1U, kMostSlices);
}

ScanShape scan_for(const Config& config, std::uint32_t sequences, const DeviceInfo& info) {
  if (config.head_size > 64) return {"batch_scan_256", 256, groups_of(config.head_size, 16)};
  // With more groups than fit at once it is better that more fit.
  if (sequences * config.heads > info.cores) return {"batch_scan_64_many", 128, 1};
  return {"batch_scan_64", 256, 1};
}

}  // namespace gander::gpu
