#pragma once

#include "../transposed.h"
#include "rows.h"

// Stage E: what a tile of channels gets from a slice of the hidden units. Units that are zero are
// not read, so this matrix, by hidden unit, is no part of the stream.

// Sums over a run of hidden units with one scale. As many units at once as loads are wanted in
// flight; a place without a unit repeats one with weight zero.
template <typename Format>
static inline Eight sum_run(device const uchar* matrix, uint first, uint active, float h,
                            uint channel) {
  const Eight one = eight(float4(1.0f), float4(1.0f));
  const Eight zero = eight(float4(0.0f), float4(0.0f));
  const uint some_unit = first + uint(ctz(active));
  const Eight scale = Format::scaled(matrix, some_unit, channel, one, 0.0f);
  const Eight offset = Format::scaled(matrix, some_unit, channel, zero, 1.0f);
  Eight sums = zero;
  float h_sum = 0.0f;
  while (active != 0u) {
    Eight levels[8];
    float weights[8];
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      uint unit = some_unit;
      weights[i] = 0.0f;
      if (active != 0u) {
        const uint lane = uint(ctz(active));
        active &= active - 1u;
        unit = first + lane;
        weights[i] = simd_shuffle(h, ushort(lane));
      }
      levels[i] = Format::levels(matrix, unit, channel);
    }
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      sums = add_scaled(sums, levels[i], weights[i]);
      h_sum += weights[i];
    }
  }
  return eight(scale.low * sums.low + offset.low * h_sum,
               scale.high * sums.high + offset.high * h_sum);
}

template <typename Format>
static inline Eight sum_slice(device const uchar* matrix, device const float* hidden, uint round,
                              uint begin, uint end, uint warp, uint lane, uint channel) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  for (uint first = begin + 32u * warp; first < end; first += 32u * GANDER_TOKEN_WARPS) {
    uint word = 0u;
    bool waits = false;
    do {
      if (first + lane < end) word = load_now((device const uint*)hidden + first + lane);
      waits = first + lane < end && other_round(word, round) != 0u;
    } while (try_again(waits));
    const float h = value_of(word);
    const uint mask = uint(simd_vote::vote_t(simd_ballot(h != 0.0f)));
    for (uint run = 0u; run < 32u; run += uint(Format::kScaleUnits)) {
      const uint active = mask & (0xffffffffu >> (32u - uint(Format::kScaleUnits)) << run);
      if (active == 0u) continue;
      total = add_scaled(total, sum_run<Format>(matrix, first, active, h, channel), 1.0f);
    }
  }
  return total;
}

static inline Eight sum_slice(uint type, device const uchar* matrix, device const float* hidden,
                              uint round, uint begin, uint end, uint warp, uint lane,
                              uint channel) {
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    return sum_slice<UnitsF32>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_F16) && type == GANDER_F16) {
    return sum_slice<UnitsF16>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    return sum_slice<UnitsBF16>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    return sum_slice<UnitsQ8_0>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    return sum_slice<UnitsQ4_0>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    return sum_slice<UnitsQ4_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    return sum_slice<UnitsQ5_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    return sum_slice<UnitsQ6_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  return eight(float4(0.0f), float4(0.0f));
}

static inline void run_value(Results results, device const uchar* value, uint type, uint block,
                             uint slices, device const uint* entered, uint blocks, uint stage,
                             threadgroup uchar* memory, uint warp, uint lane) {
  const uint tiles = kWidth / GANDER_VALUE_TILE;
  const uint tile = block % tiles;
  const uint slice = block / tiles;
  if (slice >= slices) return;
  const uint units = round_up((kFfnWidth + slices - 1u) / slices, 32u);
  const uint begin = min(slice * units, kFfnWidth);
  const uint end = min(begin + units, kFfnWidth);
  const Eight sums = sum_slice(type, value, results.hidden, results.round, begin, end, warp, lane,
                               GANDER_VALUE_TILE * tile + 8u * lane);
  threadgroup float* partials = (threadgroup float*)memory;
  threadgroup float4* own = (threadgroup float4*)(partials + GANDER_VALUE_TILE * warp) + 2u * lane;
  own[0] = sums.low;
  own[1] = sums.high;
  wait_for_readers(entered, blocks, 32u * warp + lane, stage);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint channel = 32u * warp + lane;
  if (channel >= GANDER_VALUE_TILE) return;
  float sum = 0.0f;
  for (uint i = 0u; i < GANDER_TOKEN_WARPS; ++i) sum += partials[GANDER_VALUE_TILE * i + channel];
  add_to_x(results.residual, GANDER_VALUE_TILE * tile + channel, sum);
}
