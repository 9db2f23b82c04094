#pragma once

#include <cstdint>

// The search for the numbers of a block that minimise sum_j w_j (x_j - value_j)^2. The same bits
// come out on every processor.
namespace gander {

inline constexpr int kSearchWeights = 256;  ///< weights that are searched together

/// Q4_K and Q5_K: value = d scale q - dmin minimum, a (scale, minimum) for each 32 weights.
struct AffineBlock {
  std::uint16_t d, dmin;
  std::uint8_t scales[8], minimums[8];
  std::uint8_t levels[kSearchWeights];  ///< q
};

/// Q6_K: value = d scale (level - 32), a scale for each 16 weights.
struct ScaledBlock {
  std::uint16_t d;
  std::int8_t scales[16];
  std::uint8_t levels[kSearchWeights];
};

/// Eight blocks of Q4_0 or Q8_0: value = d level, a d for each 32 weights.
struct PlainBlocks {
  std::uint16_t d[8];
  std::int8_t levels[kSearchWeights];
};

/// The weights w_j of the errors, for kSearchWeights weights x: importance_j sqrt(mean x^2 +
/// x_j^2). Like all arrays of floats here they have kSearchWeights entries.
void error_weights(const float* x, const float* importance, float* w);

/// Levels from 0 to `top`.
void search_affine(const float* x, const float* w, int top, AffineBlock& block);
void search_scaled(const float* x, const float* w, ScaledBlock& block);
/// Levels from `low` to `high`.
void search_plain(const float* x, const float* w, int low, int high, PlainBlocks& blocks);

}  // namespace gander
