#pragma once

#include <cstdint>
#include <vector>

#include "model/weights.h"

// Small RWKV-7 models with random weights, for tests of everything that takes weights.
namespace gander {

/// A model that no shortcut fits: 3 heads, 7 layers, four different low-rank widths (multiples of
/// 32), F = 5N instead of 4C. head_size 256 makes every row a whole number of 256-blocks.
Config synthetic_config(std::uint32_t head_size = 64);

/// Random weights, the same for the same seed on every machine. Scales are chosen so that
/// activations stay of order one, decays spread over their whole range, relu^2 has zeros, and
/// every parameter changes the logits. All values fit both F16 and BF16 exactly, so the models of
/// one seed in F32, F16 and BF16 are equal; the other types round them.
/// `matrices` is the type of emb, head and the large matrices; `low_rank` that of w1, w2, a1, ...
Weights make_synthetic_weights(const Config& config, std::uint64_t seed,
                               DataType matrices = DataType::F32,
                               DataType low_rank = DataType::F32);

/// The values of a matrix, row after row.
std::vector<float> dequantized(const Matrix& matrix);

}  // namespace gander
