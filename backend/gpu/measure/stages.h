#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/gpu/gpu_backend.h"

// What each stage of a token costs, against the bytes it has to move.
namespace gander::gpu {

/// A stage, in all layers of a token together.
struct StageCost {
  std::string name;            ///< "D ffn key"
  std::uint32_t launches = 0;  ///< or times that the token kernel goes through it
  double seconds = 0;          ///< the least of some measurements
  std::uint64_t bytes = 0;     ///< to read and to write when everything is, each byte once
  double moved_bytes = 0;      ///< without the hidden units that stage E skips as they are zero
  double operations = 0;       ///< multiplications and additions of those
};

struct StageCosts {
  std::vector<StageCost> stages;
  /// Of the hidden units of the last layer, when stage E was measured.
  double active = 1;
  bool traced = false;  ///< stages of the token kernel, from its own clock
};

/// Generates a few tokens greedily, then times the stages. Stage by stage: the launches of all
/// layers, one after the other and several times over, as one submission; matrices that fit in a
/// cache together are then read from it, so this is the least a stage can take. With the token
/// kernel: what its first block notes while whole tokens run. The backend must have a generator.
StageCosts measure_stages(GpuBackend& backend);

}  // namespace gander::gpu
