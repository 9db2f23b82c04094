#include "backend/gpu/launch_shapes.h"

#include <algorithm>

#include "backend/gpu/layer_buffers.h"

namespace gander::gpu {

namespace {

constexpr std::uint32_t kUnknownCores = 32;
constexpr std::uint32_t kRowsAtOnce = 4;  // of a SIMD group

// About `groups_per_core` groups a core, each with at least a pass of all its SIMD groups.
RowShape row_shape(std::uint32_t rows, std::uint32_t cores, std::uint32_t groups_per_core,
                   std::uint32_t threads) {
  const std::uint32_t pass = threads / 32 * kRowsAtOnce;
  const std::uint32_t wanted = rows / (cores * groups_per_core);
  return {threads, std::clamp(wanted / pass * pass, pass, 8 * pass)};
}

}  // namespace

LaunchShapes default_shapes(const Config& config, const DeviceInfo& info) {
  const std::uint32_t cores = info.cores == 0 ? kUnknownCores : info.cores;
  const std::uint32_t threads = std::min<std::uint32_t>(256, info.max_threads);
  LaunchShapes shapes;
  shapes.time_mix_in = row_shape(3 * config.width, cores, 4, threads);
  // No LayerNorm to share, and few rows: small groups keep all cores busy.
  shapes.time_mix_out = {64, 8};
  shapes.ffn_key = row_shape(config.ffn_width, cores, 4, threads);
  shapes.head = row_shape(config.vocab_size, cores, 4, threads);
  shapes.wkv_threads = std::min<std::uint32_t>(512, info.max_threads);
  shapes.value_threads = threads;
  shapes.value_slices = std::clamp(2 * cores / value_tiles(config), 1U, most_slices(config));
  return shapes;
}

}  // namespace gander::gpu
