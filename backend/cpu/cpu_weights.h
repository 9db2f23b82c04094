#pragma once

#include <memory>
#include <vector>

#include "backend/cpu/packed.h"
#include "backend/cpu/thread_pool.h"
#include "model/weights.h"

namespace gander {

/// A matrix as the CPU backend multiplies by it: packed when it is quantised, else where it lies.
struct CpuMatrix {
  Matrix stored;
  PackedMatrix packed;

  bool is_packed() const { return packed.data != nullptr; }
};

struct CpuLayer {
  CpuMatrix receptance, key, value, output, w1, a1, v1, g1, ffn_key, ffn_value;
};

/// The matrices of a model prepared for the CPU kernels. What is not here (vectors, the second
/// low-rank matrices, the embedding) is used from the source.
struct CpuWeights {
  std::shared_ptr<const Weights> source;
  std::vector<CpuLayer> layers;
  CpuMatrix head;
  std::shared_ptr<std::byte> memory;  ///< of all packed matrices
  bool any_packed = false;            ///< whether activations are needed in 8 bits at all
};

/// Packs on all threads of the pool.
CpuWeights prepare_weights(std::shared_ptr<const Weights> source, ThreadPool& pool);

}  // namespace gander
