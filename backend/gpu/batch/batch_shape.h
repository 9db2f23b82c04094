#pragma once

#include <cstdint>
#include <string_view>

#include "backend/gpu/device.h"
#include "model/config.h"

namespace gander::gpu {

/// Groups that cover `count` of something, `unit` each.
constexpr std::uint32_t groups_of(std::uint32_t count, std::uint32_t unit) {
  return (count + unit - 1) / unit;
}

/// What a program of a batch is recorded for: a step may have less of each.
struct BatchShape {
  std::uint32_t rows = 0;       ///< tokens of all sequences
  std::uint32_t sequences = 0;  ///< at most rows
  std::uint32_t logits = 0;     ///< rows that want logits, at most rows
  bool best = false;            ///< the largest logit of these is found too,
  bool samples = false;         ///< or, for some, a token sampled
  bool singles = false;         ///< every sequence has one row

  bool operator==(const BatchShape&) const = default;
};

/// Counts rounded up to powers of two: few shapes serve all steps.
BatchShape bucket_of(const BatchShape& exact);

/// A matrix product.
struct ProductShape {
  std::uint32_t tokens = 0;
  std::uint32_t blocks = 0;  ///< of GANDER_BATCH_BLOCK_ROWS rows of weights, of all its matrices
  bool by_unit = false;      ///< with the transposed value matrix
};

/// A tile of a product.
struct ProductTile {
  std::uint32_t tokens = 0, rows = 0;  ///< of the weights
  std::uint32_t threads = 0;
  std::uint32_t group_memory = 0;  ///< bytes
  std::string_view kernel;
};

/// The tile for a product. `tensor`: by tensor cores, for weights as the token kernel has them
/// (kernels/batch/multiply_tensor.msl), else by simdgroup_matrix.
/// Throws nothing: has_tiles() must hold.
ProductTile tile_for(const ProductShape& shape, bool tensor, const DeviceInfo& info);

/// Whether any tile fits in the device's group memory.
bool has_tiles(bool tensor, const DeviceInfo& info);

/// A number of tokens for each of these tiles but the widest, which is another only wider.
std::span<const std::uint32_t> telling_lengths(bool tensor);

/// Parts that the columns of a matrix of `config.width` rows are cut into, so that its few tiles
/// keep a large device busy. They depend on the model only: so does the order of a sum.
std::uint32_t slices_for(const Config& config, std::uint32_t columns);

/// The kernel of the recurrence, how many groups share a head, or how many sequences a group has.
/// `half`: S lies in halves.
struct ScanShape {
  std::string_view kernel;
  std::uint32_t threads = 256;
  std::uint32_t parts = 1;
  std::uint32_t sequences = 1;
  std::uint32_t groups = 1;  ///< that a core should hold at once
};
ScanShape scan_for(const Config& config, const BatchShape& shape, bool half,
                   const DeviceInfo& info);

}  // namespace gander::gpu
