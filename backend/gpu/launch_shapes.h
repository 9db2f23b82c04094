#pragma once

#include <cstdint>

#include "backend/gpu/device.h"
#include "model/config.h"

namespace gander::gpu {

/// How a stage over the rows of matrices is cut: threads of a group, and the rows it computes.
struct RowShape {
  std::uint32_t threads = 256;
  std::uint32_t rows = 32;  ///< of one matrix; a multiple of 4

  bool operator==(const RowShape&) const = default;
};

/// How the token program is cut into thread groups: what `gander tune` measures. Results of the
/// recurrence and of matrix rows do not depend on it; sums of LayerNorms and of stage E do, in
/// their last bits.
struct LaunchShapes {
  RowShape time_mix_in, time_mix_out, ffn_key, head;
  std::uint32_t wkv_threads = 512;
  std::uint32_t value_threads = 256;
  std::uint32_t value_slices = 8;  ///< of the hidden units, in whole blocks of 256

  bool operator==(const LaunchShapes&) const = default;
};

/// Two to four groups a core for the large stages, so that each LayerNorm that a group recomputes
/// serves many rows; 32 cores are assumed where the device does not say.
LaunchShapes default_shapes(const Config& config, const DeviceInfo& info);

/// Thread groups that cover `rows` rows.
inline std::uint32_t groups_for(std::uint32_t rows, const RowShape& shape) {
  return (rows + shape.rows - 1) / shape.rows;
}

}  // namespace gander::gpu
