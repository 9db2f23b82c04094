#pragma once

#include "../transposed.h"
#include "shares.h"

// Weights of the transposed value matrix as halves. A thread has four units, `unit` to unit + 3, of
// eight channels from `channel` on: 32 weights, which share their scales. A format says
//   Raw, load(matrix, unit, channel)   as they are stored (transposed.h), in registers
//   decode(raw)                        words[4 i ... 4 i + 3] are unit i's channels
// `unit` is a multiple of four. Units past the last are zero, channels are padded.

template <typename Units>
struct UnitShare {
  struct Raw {
    typename Units::Words units[4];
    typename Units::Scales scales;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    Raw raw = {};
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      if (unit + i < kFfnWidth) raw.units[i] = Units::words(matrix, unit + i, channel);
    }
    if (unit < kFfnWidth) raw.scales = Units::scales(matrix, unit, channel);
    return raw;
  }
};

// Scales and offsets of channels 2 i and 2 i + 1, as halves.
struct ChannelScales {
  uint scale[4], offset[4];
};

// Levels of channels 2 i and 2 i + 1.
static inline void scale_channels(thread Share& share, uint unit, uint i, uint levels,
                                  thread const ChannelScales& by) {
  share.words[4u * unit + i] = fma_halves(levels, by.scale[i], by.offset[i]);
}

// What comes above the nibbles of channels 2 i and 2 i + 1: a bit each, or two.
static inline uint spread_fifths(uint bits, uint i) {
  return (bits >> (2u * i) & 1u) << 4 | (bits >> (2u * i) & 2u) << 19;
}
static inline uint spread_upper(uint bits, uint i) {
  return (bits >> (4u * i) & 3u) << 4 | (bits >> (4u * i) & 12u) << 18;
}

struct UnitShareF16 : UnitShare<UnitsF16> {
  static Share decode(Raw raw) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) share.words[i] = raw.units[i / 4u][i % 4u];
    return share;
  }
};

struct UnitShareBF16 : UnitShare<UnitsBF16> {
  static Share decode(Raw raw) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) {
      const float2 pair = bfloats_of(raw.units[i / 4u][i % 4u]);
      share.words[i] = pack_halves(half_range(pair.x), half_range(pair.y));
    }
    return share;
  }
};

struct UnitShareF32 : UnitShare<UnitsF32> {
  static Share decode(Raw raw) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const float4 low = raw.units[i].low;
      const float4 high = raw.units[i].high;
      share.words[4u * i] = pack_halves(half_range(low.x), half_range(low.y));
      share.words[4u * i + 1u] = pack_halves(half_range(low.z), half_range(low.w));
      share.words[4u * i + 2u] = pack_halves(half_range(high.x), half_range(high.y));
      share.words[4u * i + 3u] = pack_halves(half_range(high.z), half_range(high.w));
    }
    return share;
  }
};

// d (q + offset), where eight d are halves; what they are multiplied with is a power of two.
static inline ChannelScales scales_of_halves(uint4 d, float offset) {
  ChannelScales by;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    by.scale[i] = d[i];
    by.offset[i] = fma_halves(d[i], two_of(offset), 0u);
  }
  return by;
}

struct UnitShareQ8_0 : UnitShare<UnitsQ8_0> {
  static Share decode(Raw raw) {
    const ChannelScales by = scales_of_halves(raw.scales, -128.0f);
    Share share;
#pragma unroll
    for (uint unit = 0u; unit < 4u; ++unit) {
      const uint2 levels = raw.units[unit] ^ uint2(0x80808080u);
#pragma unroll
      for (uint i = 0u; i < 4u; ++i) {
        scale_channels(share, unit, i, levels_of_bytes(levels[i / 2u], 2u * (i % 2u)), by);
      }
    }
    return share;
  }
};

template <typename Raw>
static inline Share scale_nibbles(thread const Raw& raw, ChannelScales by) {
  Share share;
#pragma unroll
  for (uint i = 0u; i < 16u; ++i) {
    scale_channels(share, i / 4u, i % 4u, levels_of(spread_nibbles(raw.units[i / 4u], i % 4u)), by);
  }
  return share;
}

struct UnitShareQ4_0 : UnitShare<UnitsQ4_0> {
  static Share decode(Raw raw) { return scale_nibbles(raw, scales_of_halves(raw.scales, -8.0f)); }
};

// Of Q4_K and Q5_K: d scale q - dmin minimum. A word of pairs is scale and minimum of two channels,
// one of d0 or d1 is d and dmin of one.
static inline ChannelScales channel_scales(PairScales scales) {
  ChannelScales by;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    const uint4 d = i < 2u ? scales.d0 : scales.d1;
    const uint first = d[2u * (i % 2u)];
    const uint second = d[2u * (i % 2u) + 1u];
    by.scale[i] =
        fma_halves(levels_of(scales.pairs[i] & 0x00ff00ffu), (first & 0xffffu) | second << 16, 0u);
    by.offset[i] = fma_halves(levels_of(scales.pairs[i] >> 8 & 0x00ff00ffu),
                              (first >> 16 | (second & 0xffff0000u)) ^ 0x80008000u, 0u);
  }
  return by;
}

struct UnitShareQ4_K : UnitShare<UnitsQ4_K> {
  static Share decode(Raw raw) { return scale_nibbles(raw, channel_scales(raw.scales)); }
};

struct UnitShareQ5_K : UnitShare<UnitsQ5_K> {
  static Share decode(Raw raw) {
    const ChannelScales by = channel_scales(raw.scales);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) {
      const typename UnitsQ5_K::Words unit = raw.units[i / 4u];
      scale_channels(
          share, i / 4u, i % 4u,
          levels_of(spread_nibbles(unit.nibbles, i % 4u) | spread_fifths(unit.bits, i % 4u)), by);
    }
    return share;
  }
};

struct UnitShareQ6_K : UnitShare<UnitsQ6_K> {
  static Share decode(Raw raw) {
    ChannelScales by;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const char4 bytes = as_type<char4>(raw.scales.scales[i / 2u]);
      const float2 d = halves_of(raw.scales.d[i]);
      const uint c = 2u * (i % 2u);
      by.scale[i] = pack_halves(d.x * float(bytes[c]), d.y * float(bytes[c + 1u]));
      by.offset[i] = fma_halves(by.scale[i], two_of(-32.0f), 0u);
    }
    Share share;
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) {
      const typename UnitsQ6_K::Words unit = raw.units[i / 4u];
      scale_channels(
          share, i / 4u, i % 4u,
          levels_of(spread_nibbles(unit.nibbles, i % 4u) | spread_upper(unit.bits, i % 4u)), by);
    }
    return share;
  }
};
