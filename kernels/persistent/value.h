#pragma once

#include "../transposed.h"
#include "rows.h"

// Stage E: what a tile of channels gets from a slice of the hidden units. Units that are zero are
// not read, so this matrix, by hidden unit, is no part of the stream.

// Hidden units with one scale, those that count, and what was added up of them.
struct Run {
  uint first;      // unit
  uint active;     // bit i: first + i counts
  float h;         // of unit first + lane
  Eight scale, offset;
  Eight sums;      // of h levels
  float h_sum;
};

// What a scale multiplies is loaded before it is known what it is. A run without a unit loads those
// of another.
template <typename Format>
static inline Run begin_run(device const uchar* matrix, uint first, uint mask, float h, uint channel) {
  const Eight one = eight(float4(1.0f), float4(1.0f));
  const Eight zero = eight(float4(0.0f), float4(0.0f));
  Run run;
  run.first = first;
  run.active = mask;
  run.h = h;
  const uint unit = first + (mask != 0u ? uint(ctz(mask)) : 0u);
  run.scale = Format::scaled(matrix, unit, channel, one, 0.0f);
  run.offset = Format::scaled(matrix, unit, channel, zero, 1.0f);
  run.sums = zero;
  run.h_sum = 0.0f;
  return run;
}

// The next unit that counts and its h; without one, h is 0 and the unit one that is there.
static inline uint next_unit(thread Run& run, thread float& weight) {
  weight = 0.0f;
  if (run.active == 0u) return run.first;
  const uint lane = uint(ctz(run.active));
  run.active &= run.active - 1u;
  weight = simd_shuffle(run.h, ushort(lane));
  return run.first + lane;
}

static inline Eight sum_of_run(Run run) {
  return eight(run.scale.low * run.sums.low + run.offset.low * run.h_sum,
               run.scale.high * run.sums.high + run.offset.high * run.h_sum);
}

// Two runs at a time, `AtOnce` units of each, so that many loads are in flight.
template <typename Format, uint AtOnce>
static inline Eight sum_slice(device const uchar* matrix, device const float* hidden, uint begin,
                              uint end, uint warp, uint lane, uint channel) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  for (uint first = begin + 32u * warp; first < end; first += 64u * GANDER_TOKEN_WARPS) {
    const uint second = first + 32u * GANDER_TOKEN_WARPS;
    const float h0 = first + lane < end ? hidden[first + lane] : 0.0f;
    const float h1 = second + lane < end ? hidden[second + lane] : 0.0f;
    const uint mask0 = uint(simd_vote::vote_t(simd_ballot(h0 != 0.0f)));
    const uint mask1 = uint(simd_vote::vote_t(simd_ballot(h1 != 0.0f)));
    for (uint shift = 0u; shift < 32u; shift += uint(Format::kScaleUnits)) {
      const uint units = 0xffffffffu >> (32u - uint(Format::kScaleUnits)) << shift;
      if (((mask0 | mask1) & units) == 0u) continue;
      Run run0 = begin_run<Format>(matrix, first, mask0 & units, h0, channel);
      Run run1 =
          begin_run<Format>(matrix, second < end ? second : first, mask1 & units, h1, channel);
      while ((run0.active | run1.active) != 0u) {
        Eight levels[2u * AtOnce];
        float weights[2u * AtOnce];
#pragma unroll
        for (uint i = 0u; i < AtOnce; ++i) {
          levels[i] = Format::levels(matrix, next_unit(run0, weights[i]), channel);
          levels[AtOnce + i] =
              Format::levels(matrix, next_unit(run1, weights[AtOnce + i]), channel);
        }
#pragma unroll
        for (uint i = 0u; i < AtOnce; ++i) {
          run0.sums = add_scaled(run0.sums, levels[i], weights[i]);
          run1.sums = add_scaled(run1.sums, levels[AtOnce + i], weights[AtOnce + i]);
          run0.h_sum += weights[i];
          run1.h_sum += weights[AtOnce + i];
        }
      }
      total = add_scaled(total, sum_of_run(run0), 1.0f);
      total = add_scaled(total, sum_of_run(run1), 1.0f);
    }
  }
  return total;
}

static inline Eight sum_slice(uint type, device const uchar* matrix, device const float* hidden,
                              uint begin, uint end, uint warp, uint lane, uint channel) {
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    return sum_slice<UnitsF32, 2u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_F16) && type == GANDER_F16) {
    return sum_slice<UnitsF16, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    return sum_slice<UnitsBF16, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    return sum_slice<UnitsQ8_0, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    return sum_slice<UnitsQ4_0, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    return sum_slice<UnitsQ4_K, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    return sum_slice<UnitsQ5_K, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    return sum_slice<UnitsQ6_K, 4u>(matrix, hidden, begin, end, warp, lane, channel);
  }
  return eight(float4(0.0f), float4(0.0f));
}

// Adds a sum to x, whichever block comes first: as an integer. What an integer cannot hold leaves
// NaN in x itself.
static inline void add_to_x(Results results, uint channel, float sum) {
  if (abs(sum) < 16777216.0f) {
    add_in_any_order(results.added + channel, long(rint(sum / kAddedUnit)));
  } else {
    results.x[channel] = as_type<float>(0x7fc00000u);
  }
}

static inline void run_value(Results results, device const uchar* value, uint type, uint block,
                             uint slices, threadgroup uchar* memory, uint warp, uint lane) {
  const uint tiles = kWidth / GANDER_VALUE_TILE;
  const uint tile = block % tiles;
  const uint slice = block / tiles;
  if (slice >= slices) return;
  const uint units = round_up((kFfnWidth + slices - 1u) / slices, 32u);
  const uint begin = min(slice * units, kFfnWidth);
  const uint end = min(begin + units, kFfnWidth);
  const Eight sums = sum_slice(type, value, results.hidden, begin, end, warp, lane,
                               GANDER_VALUE_TILE * tile + 8u * lane);
  threadgroup float* partials = (threadgroup float*)memory;
  threadgroup float4* own =
      (threadgroup float4*)(partials + GANDER_VALUE_TILE * warp) + 2u * lane;
  own[0] = sums.low;
  own[1] = sums.high;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint channel = 32u * warp + lane;
  if (channel >= GANDER_VALUE_TILE) return;
  float sum = 0.0f;
  for (uint i = 0u; i < GANDER_TOKEN_WARPS; ++i) sum += partials[GANDER_VALUE_TILE * i + channel];
  add_to_x(results, GANDER_VALUE_TILE * tile + channel, sum);
}
