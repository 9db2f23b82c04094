#pragma once

#include <memory>
#include <vector>

#include "backend/cpu/packed.h"
#include "backend/cpu/thread_pool.h"
#include "model/weights.h"

namespace gander {

struct CpuLayer {
  PackedMatrix receptance, key, value, output, ffn_key, ffn_value;
  PackedMatrix w1, w2, a1, a2, v1, v2, g1, g2;
};

/// The matrices of a model packed for the CPU kernels; vectors and the embedding are used from the
/// source.
struct CpuWeights {
  std::shared_ptr<const Weights> source;
  std::vector<CpuLayer> layers;
  PackedMatrix head;
  std::shared_ptr<std::byte> memory;  ///< of all matrices
  bool any_quantized = false;         ///< whether activations are needed in 8 bits at all
};

/// Packs on all threads of the pool.
CpuWeights prepare_weights(std::shared_ptr<const Weights> source, ThreadPool& pool);

}  // namespace gander
