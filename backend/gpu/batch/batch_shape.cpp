#include "backend/gpu/batch/batch_shape.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "backend/gpu/batch/batch_parameters.h"
#include "backend/gpu/recorder.h"

namespace gander::gpu {
namespace {

// Blocks of 64 rows, parts and stages are those of the kernels in multiply_tensor.msl. Tiles begin
// at a multiple of 1 KB; at the end the sums lie in the same memory, with a gap after each token's.
constexpr ProductTile tensor_tile(std::uint32_t tokens, std::uint32_t blocks, std::uint32_t parts,
                                  std::uint32_t stages, std::string_view kernel) {
  const std::uint32_t rows = GANDER_BATCH_BLOCK_ROWS * blocks;
  const std::uint32_t ring = stages * parts * 128 * (rows + tokens);
  const std::uint32_t sums = tokens * (rows + 4) * 4;
  return {tokens, rows, 128 * blocks * parts, 1024 + std::max(ring, sums), kernel};
}

// Rows of a tile are 72 halves.
constexpr ProductTile simd_tile(std::uint32_t tokens, std::string_view kernel) {
  const std::uint32_t halves = (GANDER_BATCH_BLOCK_ROWS + tokens) * 144;
  return {tokens, GANDER_BATCH_BLOCK_ROWS, 128,
          std::max(halves, GANDER_BATCH_BLOCK_ROWS * tokens * 4), kernel};
}

// By tokens, ascending.
using Tiles = std::span<const ProductTile>;
constexpr std::array<ProductTile, 5> kTensorRows = {{
    tensor_tile(32, 1, 4, 3, "tensor_rows_32"),
    tensor_tile(64, 1, 4, 2, "tensor_rows_64"),
    tensor_tile(128, 1, 4, 2, "tensor_rows_128"),
    tensor_tile(128, 2, 1, 4, "tensor_rows_128_wide"),
    tensor_tile(256, 2, 1, 4, "tensor_rows_256_wide"),
}};
// For more blocks than cores: a core holds two of these groups, or a group has two blocks.
constexpr std::array<ProductTile, 4> kManyTensorRows = {{
    tensor_tile(32, 1, 2, 3, "tensor_rows_32_many"),
    tensor_tile(64, 1, 2, 3, "tensor_rows_64_many"),
    kTensorRows[3],
    kTensorRows[4],
}};
constexpr std::array<ProductTile, 5> kTensorUnits = {{
    tensor_tile(32, 1, 4, 3, "tensor_units_32"),
    tensor_tile(64, 1, 4, 2, "tensor_units_64"),
    tensor_tile(128, 1, 4, 2, "tensor_units_128"),
    tensor_tile(128, 2, 1, 4, "tensor_units_128_wide"),
    tensor_tile(256, 2, 1, 4, "tensor_units_256_wide"),
}};
constexpr std::array<ProductTile, 2> kSimdRows = {{
    simd_tile(16, "multiply_rows_16"),
    simd_tile(64, "multiply_rows_64"),
}};
constexpr std::array<ProductTile, 2> kSimdUnits = {{
    simd_tile(16, "multiply_units_16"),
    simd_tile(64, "multiply_units_64"),
}};

// How often all cores take a group each.
std::uint32_t waves_of(const ProductShape& shape, const ProductTile& tile, std::uint32_t cores) {
  const std::uint32_t groups = groups_of(shape.tokens, tile.tokens) *
                               groups_of(shape.blocks * GANDER_BATCH_BLOCK_ROWS, tile.rows);
  return groups_of(groups, std::max(cores, 1U));
}

// A group of the widest tile takes 1.3 to 1.75 times as long as one of half the tokens
// (docs/benchmarks.md): it pays where it takes so many fewer waves.
bool widest_pays(const ProductShape& shape, const ProductTile& half, const ProductTile& widest,
                 std::uint32_t cores) {
  return 8 * waves_of(shape, widest, cores) < 5 * waves_of(shape, half, cores);
}

}  // namespace

BatchShape bucket_of(const BatchShape& exact) {
  return {std::bit_ceil(exact.rows),
          std::bit_ceil(exact.sequences),
          exact.logits > 0 ? std::bit_ceil(exact.logits) : 0,
          exact.best,
          exact.samples,
          exact.singles};
}

bool has_tiles(bool tensor, const DeviceInfo& info) {
  return !tensor || kTensorRows.front().group_memory <= info.max_group_memory;
}

std::span<const std::uint32_t> telling_lengths(bool tensor) {
  static constexpr std::array<std::uint32_t, 4> kTensor = {8, 48, 100, 160};
  static constexpr std::array<std::uint32_t, 2> kSimd = {8, 40};
  if (tensor) return kTensor;
  return kSimd;
}

// The smallest that has room for all tokens, else the largest, but for the widest.
ProductTile tile_for(const ProductShape& shape, bool tensor, const DeviceInfo& info) {
  Tiles tiles = shape.by_unit ? Tiles(kSimdUnits) : Tiles(kSimdRows);
  if (tensor) {
    const bool many = shape.blocks > info.cores;
    tiles = shape.by_unit ? Tiles(kTensorUnits)
            : many        ? Tiles(kManyTensorRows)
                          : Tiles(kTensorRows);
  }
  ProductTile chosen;
  for (const ProductTile& tile : tiles) {
    if (tile.group_memory > info.max_group_memory || chosen.tokens >= shape.tokens) continue;
    if (tile.tokens < 256 || widest_pays(shape, chosen, tile, info.cores)) chosen = tile;
  }
  return chosen;
}

std::uint32_t slices_for(const Config& config, std::uint32_t columns) {
  constexpr std::uint32_t kGroups = 128, kLeastColumns = 768;
  const std::uint32_t tiles = groups_of(config.width, GANDER_BATCH_BLOCK_ROWS);
  return std::clamp(std::min(kGroups / tiles, columns / kLeastColumns), 1U,
                    std::uint32_t{GANDER_MOST_SLICES});
}

ScanShape scan_for(const Config& config, const BatchShape& shape, bool half,
                   const DeviceInfo& info) {
  const auto kernel = [half](std::string_view floats, std::string_view halves) {
    return half ? halves : floats;
  };
  if (config.head_size > 64) {
    return {kernel("batch_scan_256", "batch_scan_256_half"), 256, groups_of(config.head_size, 16)};
  }
  // With more groups than fit at once it is better that more fit.
  const std::uint32_t heads = shape.sequences * config.heads;
  if (heads > info.cores) {
    if (shape.singles) {
      // As many as make all groups fit at once, in fours, but then waves of them.
      constexpr std::uint32_t kMost = 32;
      const std::uint32_t groups = half ? 4 : 3;  // with more, registers do not suffice
      const std::uint32_t each = groups_of(groups_of(heads, groups * info.cores), 4) * 4;
      return {kernel("batch_scan_64_singles", "batch_scan_64_singles_half"), 128, 1,
              std::min(each, kMost), groups};
    }
    return {kernel("batch_scan_64_many", "batch_scan_64_many_half"), 128, 1};
  }
  return {kernel("batch_scan_64", "batch_scan_64_half"), 256, 1};
}

}  // namespace gander::gpu
