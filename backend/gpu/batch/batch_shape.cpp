#include "backend/gpu/batch/batch_shape.h"

#include <algorithm>
#include <array>
#include <bit>

#include "backend/gpu/recorder.h"
#include "backend/gpu/batch/batch_parameters.h"

namespace gander::gpu {
namespace {

// Stages are those of the kernels' names in multiply_tensor.msl. Tiles begin at a multiple of 1 KB;
// at the end the sums of a tile lie in the same memory, with a gap after each token's.
constexpr std::uint32_t tensor_memory(std::uint32_t tokens, std::uint32_t blocks,
                                      std::uint32_t stages) {
  const std::uint32_t ring = stages * 128 * (GANDER_BATCH_BLOCK_ROWS * blocks + tokens);
  const std::uint32_t sums = tokens * (GANDER_BATCH_BLOCK_ROWS * blocks + 4) * 4;
  return 1024 + std::max(ring, sums);
}

// Rows of a tile are 72 halves.
constexpr std::uint32_t simd_memory(std::uint32_t tokens) {
  return std::max((GANDER_BATCH_BLOCK_ROWS + tokens) * 144, GANDER_BATCH_BLOCK_ROWS * tokens * 4);
}

constexpr std::array<ProductTile, 5> kTensorTiles = {{
    {16, 1, tensor_memory(16, 1, 6), "tensor_rows_16", "tensor_units_16"},
    {32, 1, tensor_memory(32, 1, 6), "tensor_rows_32", "tensor_units_32"},
    {64, 1, tensor_memory(64, 1, 5), "tensor_rows_64", "tensor_units_64"},
    {128, 2, tensor_memory(128, 2, 4), "tensor_rows_128", "tensor_units_128"},
    {256, 2, tensor_memory(256, 2, 4), "tensor_rows_256", "tensor_units_256"},
}};
constexpr std::array<ProductTile, 2> kSimdTiles = {{
    {16, 1, simd_memory(16), "multiply_rows_16", "multiply_units_16"},
    {64, 1, simd_memory(64), "multiply_rows_64", "multiply_units_64"},
}};

// From so many tokens on the widest tile has enough groups to keep all cores busy.
constexpr std::uint32_t kWidestFrom = 1024;

}  // namespace

BatchShape bucket_of(const BatchShape& exact) {
  return {std::bit_ceil(exact.rows), std::bit_ceil(exact.sequences),
          exact.logits > 0 ? std::bit_ceil(exact.logits) : 0, exact.best};
}

std::uint32_t ProductTile::rows() const {
  return GANDER_BATCH_BLOCK_ROWS * blocks;
}

std::uint32_t ProductTile::threads() const {
  return 128 * blocks;
}

ProductTile tile_for(std::uint32_t tokens, bool tensor, const DeviceInfo& info) {
  if (!tensor) return tokens <= kSimdTiles[0].tokens ? kSimdTiles[0] : kSimdTiles[1];
  ProductTile chosen = kTensorTiles[0];
  for (const ProductTile& tile : kTensorTiles) {
    if (tile.group_memory > info.max_group_memory || chosen.tokens >= tokens) break;
    if (tile.tokens == 256 && tokens < kWidestFrom) break;
    chosen = tile;
  }
  return chosen;
}

std::uint32_t slices_for(const Config& config, std::uint32_t columns) {
  constexpr std::uint32_t kGroups = 128, kLeastColumns = 1024;
  const std::uint32_t tiles = groups_of(config.width, GANDER_BATCH_BLOCK_ROWS);
  return std::clamp(std::min(groups_of(kGroups, tiles), columns / kLeastColumns), 1U, kMostSlices);
}

ScanShape scan_for(const Config& config, std::uint32_t sequences, const DeviceInfo& info) {
  struct Variant {
    std::string_view kernel;
    std::uint32_t rows;
  };
  constexpr std::array<Variant, 3> kSmall = {
      {{"batch_scan_64_64", 64}, {"batch_scan_64_32", 32}, {"batch_scan_64_16", 16}}};
  if (config.head_size > 64) return {"batch_scan_256_32", groups_of(config.head_size, 32)};
  ScanShape shape;
  for (const Variant& variant : kSmall) {
    shape = {variant.kernel, groups_of(config.head_size, variant.rows)};
    if (sequences * config.heads * shape.parts >= info.cores) break;
  }
  return shape;
}

}  // namespace gander::gpu
