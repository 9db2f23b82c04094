#pragma once

#include "transposed.h"

// Sums over the hidden units that are not zero, for eight channels a lane.

// Sum of h times the levels of the hidden units first + i with bit i in `active`, scaled: what
// they add to the lane's eight channels. h of unit first + i is lane i's. Four units at once, so
// that as many loads are in flight.
template <typename Format>
static inline Eight sum_active(device const uchar* matrix, uint first, uint active, float h,
                               uint channel) {
  Eight sums = eight(float4(0.0f), float4(0.0f));
  float h_sum = 0.0f;
  const uint some_unit = first + uint(ctz(active));
  while (active != 0u) {
    uint units[4];
    float weights[4];
    for (uint i = 0u; i < 4u; ++i) {
      units[i] = some_unit;
      weights[i] = 0.0f;
      if (active != 0u) {
        const uint lane = uint(ctz(active));
        active &= active - 1u;
        units[i] = first + lane;
        weights[i] = simd_shuffle(h, ushort(lane));
      }
    }
    const Eight levels0 = Format::levels(Format::words(matrix, units[0], channel));
    const Eight levels1 = Format::levels(Format::words(matrix, units[1], channel));
    const Eight levels2 = Format::levels(Format::words(matrix, units[2], channel));
    const Eight levels3 = Format::levels(Format::words(matrix, units[3], channel));
    sums = add_scaled(sums, levels0, weights[0]);
    sums = add_scaled(sums, levels1, weights[1]);
    sums = add_scaled(sums, levels2, weights[2]);
    sums = add_scaled(sums, levels3, weights[3]);
    h_sum += (weights[0] + weights[1]) + (weights[2] + weights[3]);
  }
  return Format::scaled(Format::scales(matrix, some_unit, channel), sums, h_sum);
}

// Over the hidden units begin to end - 1, where begin is a multiple of 32.
template <typename Format>
static inline Eight sum_units(device const uchar* matrix, device const float* hidden, uint begin,
                              uint end, uint channel, uint lane) {
  Eight total = eight(float4(0.0f), float4(0.0f));
  for (uint first = begin; first < end; first += 32u) {
    const float h = first + lane < end ? hidden[first + lane] : 0.0f;
    const uint mask = uint(simd_vote::vote_t(simd_ballot(h != 0.0f)));
    for (uint run = 0u; run < 32u; run += uint(Format::kScaleUnits)) {
      const uint active = mask & (0xffffffffu >> (32u - uint(Format::kScaleUnits)) << run);
      if (active == 0u) continue;
      total = add_scaled(total, sum_active<Format>(matrix, first, active, h, channel), 1.0f);
    }
  }
  return total;
}

static inline Eight sum_units(uint type, device const uchar* matrix, device const float* hidden,
                              uint begin, uint end, uint channel, uint lane) {
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    return sum_units<UnitsF32>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_F16) && type == GANDER_F16) {
    return sum_units<UnitsF16>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    return sum_units<UnitsBF16>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    return sum_units<UnitsQ8_0>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    return sum_units<UnitsQ4_0>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    return sum_units<UnitsQ4_K>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    return sum_units<UnitsQ5_K>(matrix, hidden, begin, end, channel, lane);
  }
  if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    return sum_units<UnitsQ6_K>(matrix, hidden, begin, end, channel, lane);
  }
  return eight(float4(0.0f), float4(0.0f));
}
