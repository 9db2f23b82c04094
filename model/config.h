#pragma once

#include <cstdint>

namespace gander {

/// A token of the vocabulary: 0 is end of document.
using TokenId = std::uint32_t;

/// The decay is exp(-kDecayScale * sigmoid(...)): e^-0.5, in the digits of the published kernels.
inline constexpr double kDecayScale = 0.606531;

/// Every width of an RWKV-7 model, read from the shapes of its tensors.
/// The letters are the ones used in docs/architecture.md and the RWKV-7 paper.
struct Config {
  std::uint32_t vocab_size = 0;  ///< V
  std::uint32_t width = 0;       ///< C, the embedding width
  std::uint32_t layers = 0;      ///< L
  std::uint32_t heads = 0;       ///< H
  std::uint32_t head_size = 0;   ///< N = C / H, 64 in every released model
  std::uint32_t ffn_width = 0;   ///< F, 4C in released models
  std::uint32_t rank_w = 0;      ///< low-rank width of the decay
  std::uint32_t rank_a = 0;      ///< of the in-context learning rate
  std::uint32_t rank_v = 0;      ///< of the value residual; 0 in a one-layer model, which has none
  std::uint32_t rank_g = 0;      ///< of the gate
  float norm_epsilon = 1e-5F;    ///< LayerNorms; the GroupNorm uses head_size times this

  /// Of all low-rank vectors together.
  std::uint64_t ranks() const { return std::uint64_t{rank_w} + rank_a + rank_v + rank_g; }

  bool operator==(const Config&) const = default;
};

}  // namespace gander
