#include "backend/gpu/recorder.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"
#include "kernels/function_constants.h"

namespace gander::gpu {

std::uint32_t type_bits(std::initializer_list<const MatrixView*> matrices) {
  std::uint32_t bits = 0;
  for (const MatrixView* matrix : matrices) {
    if (matrix->rows > 0) bits |= type_bit(matrix->type);
  }
  return bits;
}

std::vector<FunctionConstant> model_constants(const Config& config, std::uint32_t weight_types) {
  return {{GANDER_WIDTH, false, config.width},
          {GANDER_HEADS, false, config.heads},
          {GANDER_HEAD_SIZE, false, config.head_size},
          {GANDER_FFN_WIDTH, false, config.ffn_width},
          {GANDER_VOCAB_SIZE, false, config.vocab_size},
          {GANDER_RANK_W, false, config.rank_w},
          {GANDER_RANK_A, false, config.rank_a},
          {GANDER_RANK_V, false, config.rank_v},
          {GANDER_RANK_G, false, config.rank_g},
          {GANDER_NORM_EPSILON, true, std::bit_cast<std::uint32_t>(config.norm_epsilon)},
          {GANDER_WEIGHT_TYPES, false, weight_types}};
}

void Recorder::append(Program& program, std::string_view kernel, std::uint32_t layer,
                      std::uint32_t weight_types, std::vector<Binding> bindings,
                      std::vector<std::byte> parameters, const Launch& launch) const {
  const DeviceInfo& info = device_.info();
  const std::uint32_t memory = (launch.group_memory + 15) / 16 * 16;
  if (memory > info.max_group_memory) {
    fail("kernel {}: it needs {} bytes of thread-group memory for this model, and {} has {}",
         kernel, memory, info.name, info.max_group_memory);
  }
  std::vector<FunctionConstant> constants = model_constants(config_, weight_types);
  constants.insert(constants.end(), launch.constants.begin(), launch.constants.end());
  const PipelineInfo pipeline = device_.pipeline(kernel, constants);
  const std::uint32_t threads = std::min(launch.threads, pipeline.max_threads) / 32 * 32;
  if (threads == 0) {
    fail("kernel {}: {} runs it with {} threads, fewer than a SIMD group of 32", kernel, info.name,
         pipeline.max_threads);
  }
  program.dispatches.push_back({.kernel = kernel,
                                .layer = layer,
                                .pipeline = pipeline.id,
                                .bindings = std::move(bindings),
                                .parameters = std::move(parameters),
                                .groups = launch.groups,
                                .threads = threads,
                                .group_memory = memory});
}

}  // namespace gander::gpu
