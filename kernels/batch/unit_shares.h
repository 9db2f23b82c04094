#pragma once

#include "../transposed.h"
#include "shares.h"

// Weights of the transposed value matrix as halves. A thread has four units, `unit` to unit + 3, of
// eight channels from `channel` on: 32 weights, which share their scales. A format says
//   Raw, load(matrix, unit, channel)   as they are stored, in registers
//   decode(raw)                        words[4 i ... 4 i + 3] are unit i's channels
// `unit` is a multiple of four. Units past the last are zero, channels are padded.

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

// Words of the unit in a part of `bits` a channel; zero past the last unit.
static inline uint load_unit_word(device const uchar* part, uint unit, uint channel) {
  return unit < kFfnWidth ? eight_nibbles(part_row(part, unit, 4u), channel) : 0u;
}
static inline uint4 load_unit_words(device const uchar* matrix, uint unit, uint channel) {
  if (unit >= kFfnWidth) return uint4(0u);
  return *(device const uint4*)(part_row(matrix, unit, 16u) + 2u * channel);
}

// Four units of 16-bit floats.
struct UnitWords {
  uint4 units[4];
};
static inline UnitWords load_four_units(device const uchar* matrix, uint unit, uint channel) {
  UnitWords words;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) words.units[i] = load_unit_words(matrix, unit + i, channel);
  return words;
}

struct UnitShareF16 {
  typedef UnitWords Raw;
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    return load_four_units(matrix, unit, channel);
  }
  static Share decode(Raw raw) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) share.words[i] = raw.units[i / 4u][i % 4u];
    return share;
  }
};

struct UnitShareBF16 {
  typedef UnitWords Raw;
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    return load_four_units(matrix, unit, channel);
  }
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

struct UnitShareF32 {
  struct Raw {
    Eight units[4];
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    Raw raw;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      raw.units[i] = eight(float4(0.0f), float4(0.0f));
      if (unit + i < kFfnWidth) raw.units[i] = UnitsF32::words(matrix, unit + i, channel);
    }
    return raw;
  }
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

// The nibbles of four units and what scales them all: their channels' scales lie in rows of 32
// units or more. Past the last unit nothing is loaded, and the scales are zero.
struct UnitShareQ8_0 {
  struct Raw {
    uint2 units[4];
    uint4 d;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    Raw raw;
    raw.d = uint4(0u);
    for (uint i = 0u; i < 4u; ++i) raw.units[i] = uint2(0u);
    if (unit < kFfnWidth) {  // a whole block of 32
#pragma unroll
      for (uint i = 0u; i < 4u; ++i) {
        raw.units[i] = *(device const uint2*)(part_row(matrix, unit + i, 8u) + channel);
      }
      device const uchar* d_part = matrix + part_bytes(kFfnWidth, 8u);
      raw.d = *(device const uint4*)(part_row(d_part, unit / 32u, 16u) + 2u * channel);
    }
    return raw;
  }
  static Share decode(Raw raw) {
    ChannelScales by;
#pragma unroll
    for (uint c = 0u; c < 8u; ++c) {
      by.scale[c] = halves_of(raw.d[c / 2u])[c % 2u];
      by.offset[c] = -128.0f * by.scale[c];
    }
    Share share;
    const uint4 shift = uint4(0u, 8u, 16u, 24u);
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint2 levels = raw.units[i] ^ uint2(0x80808080u);
      scale_unit(share, i, uint4(levels.x) >> shift & 255u, uint4(levels.y) >> shift & 255u, by);
    }
    return share;
  }
};

struct UnitShareQ4_0 {
  struct Raw {
    uint4 units, d;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    Raw raw;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) raw.units[i] = load_unit_word(matrix, unit + i, channel);
    raw.d = uint4(0u);
    if (unit < kFfnWidth) {
      device const uchar* d_part = matrix + part_bytes(kFfnWidth, 4u);
      raw.d = *(device const uint4*)(part_row(d_part, unit / 32u, 16u) + 2u * channel);
    }
    return raw;
  }
  static Share decode(Raw raw) {
    ChannelScales by;
#pragma unroll
    for (uint c = 0u; c < 8u; ++c) {
      by.scale[c] = halves_of(raw.d[c / 2u])[c % 2u];
      by.offset[c] = -8.0f * by.scale[c];
    }
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      scale_unit(share, i, low_nibbles(raw.units[i]), high_nibbles(raw.units[i]), by);
    }
    return share;
  }
};

// Of Q4_K and Q5_K; zeros past the last unit.
static inline PairScales load_pair_scales(device const uchar* pairs_part, uint unit, uint channel) {
  if (unit < kFfnWidth) return pair_scales(pairs_part, unit, channel);
  PairScales scales;
  scales.pairs = uint4(0u);
  scales.d0 = uint4(0u);
  scales.d1 = uint4(0u);
  return scales;
}
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

struct UnitShareQ4_K {
  struct Raw {
    uint4 units;
    PairScales scales;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    Raw raw;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) raw.units[i] = load_unit_word(matrix, unit + i, channel);
    raw.scales = load_pair_scales(matrix + part_bytes(kFfnWidth, 4u), unit, channel);
    return raw;
  }
  static Share decode(Raw raw) {
    const ChannelScales by = channel_scales(raw.scales);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      scale_unit(share, i, low_nibbles(raw.units[i]), high_nibbles(raw.units[i]), by);
    }
    return share;
  }
};

struct UnitShareQ5_K {
  struct Raw {
    uint4 units, fifths;
    PairScales scales;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* fifths = matrix + part_bytes(kFfnWidth, 4u);
    Raw raw;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      raw.units[i] = load_unit_word(matrix, unit + i, channel);
      raw.fifths[i] =
          unit + i < kFfnWidth ? uint(part_row(fifths, unit + i, 1u)[channel / 8u]) : 0u;
    }
    raw.scales = load_pair_scales(fifths + part_bytes(kFfnWidth, 1u), unit, channel);
    return raw;
  }
  static Share decode(Raw raw) {
    const ChannelScales by = channel_scales(raw.scales);
    const uint4 index = uint4(0u, 1u, 2u, 3u);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint fifths = raw.fifths[i];
      scale_unit(share, i, low_nibbles(raw.units[i]) | (uint4(fifths) >> index & 1u) << 4,
                 high_nibbles(raw.units[i]) | (uint4(fifths >> 4) >> index & 1u) << 4, by);
    }
    return share;
  }
};

struct UnitShareQ6_K {
  struct Raw {
    uint4 units, upper, d;
    uint2 scales;
  };
  static Raw load(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* upper_part = matrix + part_bytes(kFfnWidth, 4u);
    device const uchar* scales_part = upper_part + part_bytes(kFfnWidth, 2u);
    device const uchar* d_part = scales_part + part_bytes(kFfnWidth / 16u, 8u);
    Raw raw;
    raw.d = uint4(0u);
    raw.scales = uint2(0u);
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      raw.units[i] = load_unit_word(matrix, unit + i, channel);
      device const ushort* upper = (device const ushort*)part_row(upper_part, unit + i, 2u);
      raw.upper[i] = unit + i < kFfnWidth ? uint(upper[channel / 8u]) : 0u;
    }
    if (unit < kFfnWidth) {
      raw.scales = *(device const uint2*)(part_row(scales_part, unit / 16u, 8u) + channel);
      raw.d = *(device const uint4*)(part_row(d_part, unit / 256u, 16u) + 2u * channel);
    }
    return raw;
  }
  static Share decode(Raw raw) {
    ChannelScales by;
#pragma unroll
    for (uint c = 0u; c < 8u; ++c) {
      const uint byte = raw.scales[c / 4u] >> (8u * (c % 4u)) & 255u;
      by.scale[c] = halves_of(raw.d[c / 2u])[c % 2u] * (level_of(byte ^ 128u) - 128.0f);
      by.offset[c] = -32.0f * by.scale[c];
    }
    const uint4 shift = uint4(0u, 2u, 4u, 6u);
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint upper = raw.upper[i];
      scale_unit(share, i, low_nibbles(raw.units[i]) | (uint4(upper) >> shift & 3u) << 4,
                 high_nibbles(raw.units[i]) | (uint4(upper >> 8) >> shift & 3u) << 4, by);
    }
    return share;
  }
};
