#pragma once

#include "function_constants.h"

// A model's widths, known when a pipeline is compiled.
constant uint kWidth [[function_constant(GANDER_WIDTH)]];
constant uint kHeads [[function_constant(GANDER_HEADS)]];
constant uint kHeadSize [[function_constant(GANDER_HEAD_SIZE)]];
constant uint kFfnWidth [[function_constant(GANDER_FFN_WIDTH)]];
constant uint kVocabSize [[function_constant(GANDER_VOCAB_SIZE)]];
constant uint kRankW [[function_constant(GANDER_RANK_W)]];
constant uint kRankA [[function_constant(GANDER_RANK_A)]];
constant uint kRankV [[function_constant(GANDER_RANK_V)]];
constant uint kRankG [[function_constant(GANDER_RANK_G)]];
constant float kNormEpsilon [[function_constant(GANDER_NORM_EPSILON)]];
constant uint kWeightTypes [[function_constant(GANDER_WEIGHT_TYPES)]];

// Whether a matrix of this dispatch may have the type: where not, the compiler drops its code.
static inline bool has_type(uint type) {
  return ((kWeightTypes >> type) & 1u) != 0u;
}

static inline uint round_up(uint count, uint unit) {
  return (count + unit - 1u) / unit * unit;
}
