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

// What all units with one scale add, from `first` on, where most of them are not zero. Eight are on
// their way while eight are used: with more of them the loads of all warps come in waves that wait
// for each other. h of the first is lane `place`'s.
template <typename Format>
static inline Eight sum_full_run(device const uchar* matrix, uint first, uint place, float h,
                                 uint channel) {
  constexpr uint kScaleUnits = uint(Format::kScaleUnits);
  float h_sum = h;
  for (uint distance = kScaleUnits / 2u; distance > 0u; distance /= 2u) {
    h_sum += simd_shuffle_xor(h_sum, ushort(distance));
  }
  h_sum = simd_shuffle(h_sum, ushort(place));
  Eight sums = eight(float4(0.0f), float4(0.0f));
  typename Format::Words words[kScaleUnits];
  typename Format::Scales scales;
#pragma unroll
  for (uint i = 0u; i < 8u; ++i) words[i] = Format::words(matrix, first + i, channel);
#pragma unroll
  for (uint begin = 0u; begin < kScaleUnits; begin += 8u) {
    const uint next = begin + 8u;
    simdgroup_barrier(mem_flags::mem_device);  // the compiler would ask for all at once
#pragma unroll
    for (uint i = next; i < min(next + 8u, kScaleUnits); ++i) {
      words[i] = Format::words(matrix, first + i, channel);
    }
    if (next + 8u == kScaleUnits) scales = Format::scales(matrix, first, channel);
#pragma unroll
    for (uint i = begin; i < next; ++i) {
      sums = add_scaled(sums, Format::levels(words[i]), simd_shuffle(h, ushort(place + i)));
    }
  }
  return Format::scaled(scales, sums, h_sum);
}

// A hidden unit's word before anybody has looked: one past the end has come, and is zero.
static inline uint unseen_word(uint round, bool inside) {
  return (inside ? ~round : round) & 1u;
}

static inline uint look(device const float* hidden, uint unit, uint word, uint round) {
  return other_round(word, round) != 0u ? load_now((device const uint*)hidden + unit) : word;
}

// Memory begins to bring to its cache the tile's weights of units first + lane whose h is not zero.
template <typename Format>
static inline void expect_units(device const uchar* matrix, uint first, float h, uint channel,
                                uint lane) {
  if (h == 0.0f) return;
  device const uchar* weights = part_row(matrix, first + lane, uint(Format::kLevelBits)) +
                                (channel - 8u * lane) / 8u * uint(Format::kLevelBits);
#pragma unroll
  for (uint line = 0u; line < uint(Format::kLevelBits) / 4u; ++line) {
    expect_line(weights + 128u * line);
  }
}

// What 32 units add.
template <typename Format>
static inline Eight sum_some_units(device const uchar* matrix, uint first, float h, uint channel) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  const uint mask = uint(simd_vote::vote_t(simd_ballot(h != 0.0f)));
  for (uint run = 0u; run < 32u; run += uint(Format::kScaleUnits)) {
    const uint active = mask & (0xffffffffu >> (32u - uint(Format::kScaleUnits)) << run);
    if (active == 0u) continue;
    total = add_scaled(total, sum_run<Format>(matrix, first, active, h, channel), 1.0f);
  }
  return total;
}

// The same where most are not zero; not for words of 16 bytes and more, which would take too many
// registers.
template <typename Format>
static inline Eight sum_full_units(device const uchar* matrix, uint first, float h, uint channel) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  for (uint run = 0u; run < 32u; run += uint(Format::kScaleUnits)) {
    total = add_scaled(total, sum_full_run<Format>(matrix, first + run, run, h, channel), 1.0f);
  }
  return total;
}

// A warp has every sixteenth 32 units. Where most are zero it takes two of these at a time: while
// it waits for the weights of the first, those of the second are on their way to the cache.
template <typename Format>
static inline Eight sum_slice(device const uchar* matrix, device const float* hidden, uint round,
                              uint begin, uint end, uint warp, uint lane, uint channel) {
  constexpr uint kStep = 32u * GANDER_TOKEN_WARPS;
  Eight total = eight(float4(0.0f), float4(0.0f));
  uint first = begin + 32u * warp;
  while (first < end) {
    uint word = unseen_word(round, first + lane < end);
    uint next = unseen_word(round, first + kStep + lane < end);
    do {
      word = look(hidden, first + lane, word, round);
      next = look(hidden, first + kStep + lane, next, round);
    } while (try_again(other_round(word, round) != 0u));
    float h = value_of(word);
    const uint mask = uint(simd_vote::vote_t(simd_ballot(h != 0.0f)));
    const bool most = popcount(mask) > 16u;
    if (most && sizeof(typename Format::Words) <= 8u) {
      total = add_scaled(total, sum_full_units<Format>(matrix, first, h, channel), 1.0f);
      first += kStep;
      continue;
    }
    if (!most) {
      expect_units<Format>(matrix, first, h, channel, lane);
      while (try_again(other_round(next, round) != 0u)) {
        next = look(hidden, first + kStep + lane, next, round);
      }
      expect_units<Format>(matrix, first + kStep, value_of(next), channel, lane);
    }
#pragma unroll 1
    for (uint left = most ? 1u : 2u; left > 0u; --left) {
      total = add_scaled(total, sum_some_units<Format>(matrix, first, h, channel), 1.0f);
      h = value_of(next);
      first += kStep;
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
