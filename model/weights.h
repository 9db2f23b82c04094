#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint/tensor_source.h"
#include "model/config.h"
#include "model/tensor.h"

namespace gander {

/// A matrix as the maths uses it, y = W x: one row per output, rows contiguous, in its stored type.
/// A view; Weights::storage owns the bytes, which may be unaligned.
struct Matrix {
  DataType type = DataType::F32;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  const std::byte* data = nullptr;

  std::size_t row_size() const { return row_bytes(type, columns); }
  std::size_t size() const { return rows * row_size(); }
  const std::byte* row(std::size_t index) const { return data + index * row_size(); }
};

struct LayerNormWeights {
  std::vector<float> weight, bias;  // [C]
};

/// Time mixing ("att"). Vectors are [C] floats. The low-rank pairs are stored like every other
/// matrix, a row per output: w1 is [rank, C], w2 is [C, rank] (transposed against `.pth`).
struct TimeMixWeights {
  std::vector<float> x_r, x_w, x_k, x_v, x_a, x_g;
  std::vector<float> w0, a0, v0, k_k, k_a, r_k;  // v0 is empty in layer 0
  Matrix w1, w2, a1, a2, v1, v2, g1, g2;         // v1 and v2 are empty in layer 0
  Matrix receptance, key, value, output;         // [C, C]
  LayerNormWeights ln_x;                         // the GroupNorm over heads
};

/// Channel mixing ("ffn").
struct ChannelMixWeights {
  std::vector<float> x_k;  // [C]
  Matrix key;              // [F, C]
  Matrix value;            // [C, F]
};

struct LayerWeights {
  LayerNormWeights ln1, ln2;
  TimeMixWeights att;
  ChannelMixWeights ffn;
};

/// The canonical weights of an RWKV-7 model, whatever file they came from.
struct Weights {
  Config config;
  std::string naming;  ///< whose tensor names were recognised: "BlinkDL", "web-rwkv", "Hugging
                       ///< Face", "GGUF"
  Matrix emb;          // [V, C]
  LayerNormWeights ln0;
  std::vector<LayerWeights> layers;
  LayerNormWeights ln_out;
  Matrix head;                                       // [V, C]
  std::vector<std::shared_ptr<const void>> storage;  ///< keeps mapped files and copies alive
};

/// Maps a checkpoint's tensors to canonical weights. Large matrices stay where they are mapped;
/// small vectors, and low-rank matrices stored the other way round, are copied.
/// Throws Error for a missing or misshapen tensor, and names the architecture of a model that is
/// not RWKV-7.
Weights load_weights(const TensorSource& source);

/// Bytes of weights that one token reads: every matrix once, one row of the embedding.
std::uint64_t bytes_per_token(const Weights& weights);

}  // namespace gander
