#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/upload.h"
#include "model/weights.h"

namespace gander::gpu {

/// A matrix on a device, rows contiguous as in gander::Matrix.
struct MatrixView {
  View view;
  DataType type = DataType::F32;
  std::uint32_t rows = 0, columns = 0;
};

/// A layer on a device. Vectors that a kernel reads together lie together; their order is that of
/// kernels/README.md.
struct LayerWeights {
  View ln1;      ///< [2][C] weight, bias
  View mix;      ///< [6][C] x_r, x_w, x_k, x_v, x_a, x_g
  View vectors;  ///< [8][C] w0, a0, v0 (zeros in layer 0), k_k, k_a, r_k, ln_x weight, bias
  View ln2;      ///< [2][C]
  View ffn_mix;  ///< [C] x_k
  MatrixView receptance, key, value, output;
  MatrixView w1, w2, a1, a2, v1, v2, g1, g2;  ///< v1, v2: no rows in layer 0
  MatrixView ffn_key;
  MatrixView ffn_value;  ///< [C, F], but stored by hidden unit: transposed_value.h
};

struct ModelWeights {
  MatrixView emb;
  View ln0;  ///< [2][C]
  std::vector<LayerWeights> layers;
  View ln_out;  ///< [2][C]
  MatrixView head;
};

/// Where the weights will be, and how many bytes that is: known before anything is loaded.
struct WeightPlan {
  std::vector<std::span<const std::byte>> pages;  ///< mapped memory that the device uses in place
  std::uint64_t wrapped_bytes = 0;                ///< of these pages
  std::uint64_t copied_bytes = 0;  ///< matrices that cannot be used in place, and vectors
  std::uint64_t value_bytes = 0;   ///< the ffn value matrices, transposed

  std::uint64_t total() const { return wrapped_bytes + copied_bytes + value_bytes; }
};

/// Matrices are used in place when the device can wrap memory and they lie in a mapped file at a
/// multiple of 16 bytes; the pages of ffn value matrices are left out unless they are shared.
WeightPlan plan_weights(const Weights& weights, const DeviceInfo& info);

/// Wraps and allocates what the plan says. Nothing is copied yet.
ModelWeights place_weights(const Weights& weights, const WeightPlan& plan, Device& device);

/// Copies what is not used in place, and transposes the ffn value matrices, on all cores.
void upload_weights(const Weights& weights, const ModelWeights& placed, Device& device,
                    const Progress& progress = nullptr);

}  // namespace gander::gpu
