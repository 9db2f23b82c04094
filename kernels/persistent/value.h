#pragma once

#include "../transposed.h"
#include "block.h"

// Stage E: what a tile of channels gets from a slice of the hidden units. Units that are zero are
// not read, so this matrix, by hidden unit, is no part of the stream.

// What units with one scale add, at most 32 of them. All loads of eight units are under way before
// the first is used; a place without a unit repeats one with weight zero.
template <typename Format>
static inline Eight sum_run(device const uchar* matrix, uint first, uint active, float h,
                            uint channel) {
  const uint some_unit = first + uint(ctz(active));
  const typename Format::Scales scales = Format::scales(matrix, some_unit, channel);
  Eight sums = eight(float4(0.0f), float4(0.0f));
  float h_sum = 0.0f;
  while (active != 0u) {
    const bool many = popcount(active) > 4u;
    typename Format::Words words[8];
    float weights[8];
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      weights[i] = 0.0f;
      if (i >= 4u && !many) continue;
      uint unit = some_unit;
      if (active != 0u) {
        const uint lane = uint(ctz(active));
        active &= active - 1u;
        unit = first + lane;
        weights[i] = simd_shuffle(h, ushort(lane));
      }
      words[i] = Format::words(matrix, unit, channel);
    }
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      if (i >= 4u && !many) continue;
      sums = add_scaled(sums, Format::levels(words[i]), weights[i]);
      h_sum += weights[i];
    }
  }
  return Format::scaled(scales, sums, h_sum);
}

// What all units with one scale add, from `first` on, where most are not zero: so many loads under
// way at once are what makes a dense model's stage faster. h of the first is lane `place`'s.
template <typename Format>
static inline Eight sum_full_run(device const uchar* matrix, uint first, uint place, float h,
                                 uint channel) {
  constexpr uint kScaleUnits = uint(Format::kScaleUnits);
  constexpr uint kMost = sizeof(typename Format::Words) > 4u ? 8u : 32u;
  float h_sum = h;
  for (uint distance = kScaleUnits / 2u; distance > 0u; distance /= 2u) {
    h_sum += simd_shuffle_xor(h_sum, ushort(distance));
  }
  h_sum = simd_shuffle(h_sum, ushort(place));
  Eight sums = eight(float4(0.0f), float4(0.0f));
  for (uint begin = 0u; begin < kScaleUnits; begin += kMost) {
    typename Format::Words words[kMost];
#pragma unroll
    for (uint i = 0u; i < kMost; ++i) words[i] = Format::words(matrix, first + begin + i, channel);
#pragma unroll
    for (uint i = 0u; i < kMost; ++i) {
      sums = add_scaled(sums, Format::levels(words[i]), simd_shuffle(h, ushort(place + begin + i)));
    }
  }
  return Format::scaled(Format::scales(matrix, first, channel), sums, h_sum);
}

// h of units first + lane, or 0 past the end.
static inline float receive_hidden(device const float* hidden, uint round, uint unit, uint end) {
  uint word = 0u;
  bool waits = false;
  do {
    if (unit < end) word = load_now((device const uint*)hidden + unit);
    waits = unit < end && other_round(word, round) != 0u;
  } while (try_again(waits));
  return value_of(word);
}

// A warp has every sixteenth 32 units. What it needs next has mostly come when it looks first.
template <typename Format>
static inline Eight sum_slice(device const uchar* matrix, device const float* hidden, uint round,
                              uint begin, uint end, uint warp, uint lane, uint channel) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  for (uint first = begin + 32u * warp; first < end; first += 32u * GANDER_TOKEN_WARPS) {
    const float h = receive_hidden(hidden, round, first + lane, end);
    const uint mask = uint(simd_vote::vote_t(simd_ballot(h != 0.0f)));
    for (uint run = 0u; run < 32u; run += uint(Format::kScaleUnits)) {
      const uint active = mask & (0xffffffffu >> (32u - uint(Format::kScaleUnits)) << run);
      if (active == 0u) continue;
      const bool full =
          sizeof(typename Format::Words) <= 8u && 2u * popcount(active) > uint(Format::kScaleUnits);
      total = add_scaled(total,
                         full ? sum_full_run<Format>(matrix, first + run, run, h, channel)
                              : sum_run<Format>(matrix, first, active, h, channel),
                         1.0f);
    }
  }
  return total;
}

// The types of ffn value matrices are the constant's upper bits: code of the others takes
// registers.
static inline bool has_value_type(uint type) {
  return ((kWeightTypes >> (GANDER_VALUE_TYPES + type)) & 1u) != 0u;
}

static inline Eight sum_slice(uint type, device const uchar* matrix, device const float* hidden,
                              uint round, uint begin, uint end, uint warp, uint lane,
                              uint channel) {
  if (has_value_type(GANDER_F32) && type == GANDER_F32) {
    return sum_slice<UnitsF32>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_F16) && type == GANDER_F16) {
    return sum_slice<UnitsF16>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_BF16) && type == GANDER_BF16) {
    return sum_slice<UnitsBF16>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    return sum_slice<UnitsQ8_0>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    return sum_slice<UnitsQ4_0>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    return sum_slice<UnitsQ4_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    return sum_slice<UnitsQ5_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  if (has_value_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    return sum_slice<UnitsQ6_K>(matrix, hidden, round, begin, end, warp, lane, channel);
  }
  return eight(float4(0.0f), float4(0.0f));
}

// The block's part of the matrix: units begin to end - 1 of a tile's channels.
struct Slice {
  uint channel, begin, end;  // the first of the channels
};

static inline Slice slice_of(uint block, uint slices) {
  const uint tiles = kWidth / GANDER_VALUE_TILE;
  const uint units = round_up((kFfnWidth + slices - 1u) / slices, 32u);
  Slice slice;
  slice.channel = block % tiles * GANDER_VALUE_TILE;
  slice.begin = block / tiles < slices ? min(block / tiles * units, kFfnWidth) : kFfnWidth;
  slice.end = min(slice.begin + units, kFfnWidth);
  return slice;
}

static inline void run_value(Block block, device const uchar* value, uint type, uint slices,
                             Results results) {
  const Slice slice = slice_of(block.index, slices);
  if (slice.begin == slice.end) return;
  const Eight sums = sum_slice(type, value, results.hidden, results.round, slice.begin, slice.end,
                               block.warp, block.lane, slice.channel + 8u * block.lane);
  threadgroup float* partials = (threadgroup float*)block.memory.vector;
  threadgroup float4* own =
      (threadgroup float4*)(partials + GANDER_VALUE_TILE * block.warp) + 2u * block.lane;
  own[0] = sums.low;
  own[1] = sums.high;
  wait_for_readers(block, reading(results.round, 1u));
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint channel = block.thread_index;
  if (channel >= GANDER_VALUE_TILE) return;
  float sum = 0.0f;
  for (uint i = 0u; i < GANDER_TOKEN_WARPS; ++i) sum += partials[GANDER_VALUE_TILE * i + channel];
  add_to_x(results.residual, slice.channel + channel, sum, 1u);
}
