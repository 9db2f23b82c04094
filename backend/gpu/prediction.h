#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "backend/gpu/program.h"
#include "model/weights.h"

// What a recorded program should take on hardware that nobody here has: arithmetic, not
// measurement.
namespace gander::gpu {

struct AppleChip {
  std::string_view name;
  double bytes_per_second;  ///< nominal memory bandwidth, as published by Apple
};
std::span<const AppleChip> apple_chips();

/// Tokens per second if bytes move at kPredictedShare of the chip's bandwidth and every dispatch
/// costs kPredictedDispatch besides. `active` is the share of hidden units that are not zero.
inline constexpr double kPredictedShare = 0.8;
inline constexpr double kPredictedDispatch = 1.8e-6;
double predicted_tokens_per_second(const Program& program, const AppleChip& chip, double active);

/// Of a transposed ffn value matrix, the share of bytes that stage E reads when that share of the
/// hidden units is not zero: their levels, and all scales.
double share_of_value_read(DataType type, double active);

/// Bytes the dispatch reads and writes with these zeros.
double moved_bytes(const Dispatch& dispatch, double active);

/// What no program can go below: every weight once but one row of the embedding, and the state
/// once.
std::uint64_t least_bytes_read(const Weights& weights);

}  // namespace gander::gpu
