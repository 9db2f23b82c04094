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

// Scale and offset of a channel.
struct ChannelScales {
  float scale[8], offset[8];
};

// Eight levels of 8 bits.
static inline void scale_unit(thread Share& share, uint unit, uint4 low, uint4 high,
                              thread const ChannelScales& by) {
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    const uint4 levels = i < 2u ? low : high;
    const uint c = 2u * i;
    share.words[4u * unit + i] =
        pack_halves(fma(level_of(levels[2u * (i % 2u)]), by.scale[c], by.offset[c]),
                    fma(level_of(levels[2u * (i % 2u) + 1u]), by.scale[c + 1u], by.offset[c + 1u]));
  }
}

static inline uint4 low_nibbles(uint word) {
  return (uint4(word) >> uint4(0u, 4u, 8u, 12u)) & 15u;
}
static inline uint4 high_nibbles(uint word) {
  return (uint4(word) >> uint4(16u, 20u, 24u, 28u)) & 15u;
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

// d (q + offset), where eight d are halves.
static inline ChannelScales scales_of_halves(uint4 d, float offset) {
  ChannelScales by;
#pragma unroll
  for (uint c = 0u; c < 8u; ++c) {
    by.scale[c] = halves_of(d[c / 2u])[c % 2u];
    by.offset[c] = offset * by.scale[c];
  }
  return by;
}

struct UnitShareQ8_0 : UnitShare<UnitsQ8_0> {
  static Share decode(Raw raw) {
    const ChannelScales by = scales_of_halves(raw.scales, -128.0f);
    const uint4 shift = uint4(0u, 8u, 16u, 24u);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint2 levels = raw.units[i] ^ uint2(0x80808080u);
      scale_unit(share, i, uint4(levels.x) >> shift & 255u, uint4(levels.y) >> shift & 255u, by);
    }
    return share;
  }
};

template <typename Raw>
static inline Share scale_nibbles(thread const Raw& raw, ChannelScales by) {
  Share share;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    scale_unit(share, i, low_nibbles(raw.units[i]), high_nibbles(raw.units[i]), by);
  }
  return share;
}

struct UnitShareQ4_0 : UnitShare<UnitsQ4_0> {
  static Share decode(Raw raw) { return scale_nibbles(raw, scales_of_halves(raw.scales, -8.0f)); }
};

// Of Q4_K and Q5_K: d scale q - dmin minimum.
static inline ChannelScales channel_scales(PairScales scales) {
  ChannelScales by;
#pragma unroll
  for (uint c = 0u; c < 8u; ++c) {
    const float2 d = halves_of(c < 4u ? scales.d0[c] : scales.d1[c - 4u]);
    const uint pair = scales.pairs[c / 2u] >> (16u * (c % 2u));
    by.scale[c] = d.x * level_of(pair & 255u);
    by.offset[c] = -d.y * level_of(pair >> 8 & 255u);
  }
  return by;
}

struct UnitShareQ4_K : UnitShare<UnitsQ4_K> {
  static Share decode(Raw raw) { return scale_nibbles(raw, channel_scales(raw.scales)); }
};

struct UnitShareQ5_K : UnitShare<UnitsQ5_K> {
  static Share decode(Raw raw) {
    const ChannelScales by = channel_scales(raw.scales);
    const uint4 index = uint4(0u, 1u, 2u, 3u);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint nibbles = raw.units[i].nibbles;
      const uint fifths = raw.units[i].bits;
      scale_unit(share, i, low_nibbles(nibbles) | (uint4(fifths) >> index & 1u) << 4,
                 high_nibbles(nibbles) | (uint4(fifths >> 4) >> index & 1u) << 4, by);
    }
    return share;
  }
};

struct UnitShareQ6_K : UnitShare<UnitsQ6_K> {
  static Share decode(Raw raw) {
    ChannelScales by;
#pragma unroll
    for (uint c = 0u; c < 8u; ++c) {
      const uint byte = raw.scales.scales[c / 4u] >> (8u * (c % 4u)) & 255u;
      by.scale[c] = halves_of(raw.scales.d[c / 2u])[c % 2u] * (level_of(byte ^ 128u) - 128.0f);
      by.offset[c] = -32.0f * by.scale[c];
    }
    const uint4 shift = uint4(0u, 2u, 4u, 6u);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint nibbles = raw.units[i].nibbles;
      const uint upper = raw.units[i].bits;
      scale_unit(share, i, low_nibbles(nibbles) | (uint4(upper) >> shift & 3u) << 4,
                 high_nibbles(nibbles) | (uint4(upper >> 8) >> shift & 3u) << 4, by);
    }
    return share;
  }
};
