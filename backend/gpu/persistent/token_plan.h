#pragma once

#include <cstdint>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/persistent/token_weights.h"
#include "model/config.h"

// Who multiplies what: the rows of every matrix are dealt out to the blocks of the token kernel
// once, before the first token.
namespace gander::gpu {

using uint = std::uint32_t;
#include "kernels/persistent/token_parameters.h"

struct TokenPlan {
  std::vector<LayerPlan> layers;  ///< and the head's
  std::vector<Segment> segments;  ///< of block 0, 1, ...; the head's last
  std::vector<Piece> pieces;      ///< of block 0's warp 0, 1, ..., of block 1's; the head's last
  std::vector<BlockPlan> blocks;
  TokenParameters parameters = {};
  std::uint32_t ring_slots = 0;    ///< of each warp
  std::uint32_t group_memory = 0;  ///< bytes of a block
  std::uint32_t weight_types = 0;  ///< bit of each type that the kernel meets
};

/// Throws Error when a block has not the thread-group memory for two pieces a warp.
TokenPlan plan_token(const Config& config, const TokenWeights& weights, const DeviceInfo& info);

}  // namespace gander::gpu
