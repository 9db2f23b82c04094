#pragma once

#include "vector.h"

// What blocks hand each other from stage to stage. They never all wait for each other: a block
// waits for the values it needs, and values tell themselves whether they have come.
//
// Floats carry in their last bit that of the round (the layer, counted over all tokens) they belong
// to; rounding to 23 bits costs 6e-8 of a value. All values of a buffer are replaced in every
// round, so a bit is enough.
//
// Sums that many blocks add to, in an order that changes, are integers: their bits do not. They
// count in their last 12 bits how much has been added.
//
// A buffer may be overwritten when all have read it. That follows from what was waited for, but for
// sums: blocks note that they have entered a stage, which is when they have read x, and nobody adds
// to x before all have entered.

static inline uint with_round(float value, uint round) {
  return (as_type<uint>(value) & ~1u) | (round & 1u);
}

static inline void hand_over(device float* to, float value, uint round) {
  store_now((device uint*)to, with_round(value, round));
}

// The word's last bit is not that of the round: 1.
static inline uint other_round(uint word, uint round) {
  return (word ^ round) & 1u;
}

static inline float value_of(uint word) {
  return as_type<float>(word & ~1u);
}

static inline Quads receive_quads(device const float* from, uint index, uint round) {
  uint4 words[GANDER_QUADS];
  uint others = 0u;
  do {
    others = 0u;
#pragma unroll
    for (uint i = 0u; i < GANDER_QUADS; ++i) {
      const uint quad = index + i * GANDER_TOKEN_THREADS;
      words[i] = uint4(round);
      if (has_quad(index, i)) words[i] = load_now((device const uint4*)from + quad);
      others |= other_round(words[i].x, round) | other_round(words[i].y, round) |
                other_round(words[i].z, round) | other_round(words[i].w, round);
    }
  } while (try_again(others != 0u));
  Quads quads;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const bool inside = has_quad(index, i);
    quads.at[i] = inside ? float4(value_of(words[i].x), value_of(words[i].y), value_of(words[i].z),
                                  value_of(words[i].w))
                         : float4(0.0f);
  }
  return quads;
}

// x: what the token began with, and what layers added. A sum is 52 bits in units of 2^-26, then 12
// bits of the number of addends. What is out of range leaves a sum from which x is NaN.
constant float kSumUnit = 1.490116119384765625e-8f;
constant float kLargestAddend = 524288.0f;  // 2^19
constant float kOutOfRange = 2097152.0f;    // 2^21
#define GANDER_SUM_SHIFT 12
#define GANDER_SUM_COUNT 0xfffu

struct Residual {
  device const float* x;  // [C]
  device long* sums;      // [C]
};

// The addend counts as `count`.
static inline void add_to_x(Residual residual, uint channel, float addend, uint count) {
  const float valid = abs(addend) < kLargestAddend ? addend : kOutOfRange;
  const long units = long(rint(valid * (1.0f / kSumUnit)));
  add_in_any_order(residual.sums + channel, (units << GANDER_SUM_SHIFT) + long(count));
}

// `low` and `high` are the words of a sum.
static inline float sum_of(uint low, uint high) {
  const int upper = int(high);
  const float sum =
      float(upper) * (1048576.0f * kSumUnit) + float(low >> GANDER_SUM_SHIFT) * kSumUnit;
  return abs(upper) < 67108864 ? sum : as_type<float>(0x7fc00000u);
}

// x when `count` addends are in every channel's sum.
static inline Quads receive_x(Residual residual, uint index, uint count) {
  Quads x = load_quads(residual.x, index);
  uint4 first[GANDER_QUADS];
  uint4 second[GANDER_QUADS];
  uint others = 0u;
  do {
    others = 0u;
#pragma unroll
    for (uint i = 0u; i < GANDER_QUADS; ++i) {
      const uint quad = index + i * GANDER_TOKEN_THREADS;
      first[i] = uint4(count, 0u, count, 0u);
      second[i] = first[i];
      if (has_quad(index, i)) {
        device const uint4* sums = (device const uint4*)residual.sums + 2u * quad;
        first[i] = load_now(sums);
        second[i] = load_now(sums + 1);
      }
      others |= (first[i].x ^ count) | (first[i].z ^ count) | (second[i].x ^ count) |
                (second[i].z ^ count);
    }
  } while (try_again((others & GANDER_SUM_COUNT) != 0u));
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    x.at[i] += float4(sum_of(first[i].x, first[i].y), sum_of(first[i].z, first[i].w),
                      sum_of(second[i].x, second[i].y), sum_of(second[i].z, second[i].w));
  }
  return x;
}
