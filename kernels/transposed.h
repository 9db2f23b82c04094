#pragma once

#include "formats.h"
#include "model.h"

// The ffn value matrix by hidden unit, as kernels/README.md lays it out. A lane takes 8 channels. A
// format says
//   kScaleUnits                    hidden units that share a channel's scale
//   kLevelBits                     bits a channel of the levels, without those of parts after them
//   words(matrix, unit, channel)   a unit's stored bits, for channels channel to channel + 7
//   levels(words)                  the levels that they are
//   scales(matrix, unit, channel)  the stored bits of the scales that the unit shares
//   scaled(scales, sums, h_sum)    what the units with these scales add to the channels:
//                                  sums = sum of h levels, h_sum = sum of h

// A value for each of eight channels.
struct Eight {
  float4 low, high;
};

static inline Eight eight(float4 low, float4 high) {
  Eight result;
  result.low = low;
  result.high = high;
  return result;
}

static inline Eight add_scaled(Eight sum, Eight x, float scale) {
  return eight(sum.low + x.low * scale, sum.high + x.high * scale);
}

// [rows][P] arrays of `bits` a channel follow each other, each at a multiple of 256 bytes.
static inline uint padded_width() {
  return round_up(kWidth, 256u);
}
static inline ulong part_bytes(uint rows, uint bits) {
  return (ulong(rows) * (padded_width() / 8u * bits) + 255u) / 256u * 256u;
}
static inline device const uchar* part_row(device const uchar* part, uint row, uint bits) {
  return part + ulong(row) * (padded_width() / 8u * bits);
}

static inline Eight eight_halves(uint4 words) {
  return eight(float4(halves_of(words.x), halves_of(words.y)),
               float4(halves_of(words.z), halves_of(words.w)));
}

static inline Eight eight_chars(uint2 words) {
  return eight(float4(as_type<char4>(words.x)), float4(as_type<char4>(words.y)));
}

static inline uint eight_nibbles(device const uchar* row, uint channel) {
  return *(device const uint*)(row + channel / 2u);
}

// Floats have no scales.
struct NoScales {};

struct UnitsF32 {
  enum { kScaleUnits = 32, kLevelBits = 32 };
  typedef Eight Words;
  typedef NoScales Scales;

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    device const float4* row = (device const float4*)part_row(matrix, unit, 32u);
    return eight(row[channel / 4u], row[channel / 4u + 1u]);
  }
  static Eight levels(Words words) { return words; }
  static Scales scales(device const uchar*, uint, uint) { return Scales(); }
  static Eight scaled(Scales, Eight sums, float) { return sums; }
};

static inline uint4 sixteen_bytes(device const uchar* row, uint channel) {
  return *(device const uint4*)(row + 2u * channel);
}

struct UnitsF16 {
  enum { kScaleUnits = 32, kLevelBits = 16 };
  typedef uint4 Words;
  typedef NoScales Scales;

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    return sixteen_bytes(part_row(matrix, unit, 16u), channel);
  }
  static Eight levels(Words words) { return eight_halves(words); }
  static Scales scales(device const uchar*, uint, uint) { return Scales(); }
  static Eight scaled(Scales, Eight sums, float) { return sums; }
};

struct UnitsBF16 {
  enum { kScaleUnits = 32, kLevelBits = 16 };
  typedef uint4 Words;
  typedef NoScales Scales;

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    return sixteen_bytes(part_row(matrix, unit, 16u), channel);
  }
  static Eight levels(Words words) {
    return eight(float4(bfloats_of(words.x), bfloats_of(words.y)),
                 float4(bfloats_of(words.z), bfloats_of(words.w)));
  }
  static Scales scales(device const uchar*, uint, uint) { return Scales(); }
  static Eight scaled(Scales, Eight sums, float) { return sums; }
};

struct UnitsQ8_0 {
  enum { kScaleUnits = 32, kLevelBits = 8 };
  typedef uint2 Words;
  typedef uint4 Scales;  // eight d

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    return *(device const uint2*)(part_row(matrix, unit, 8u) + channel);
  }
  static Eight levels(Words words) { return eight_chars(words); }
  static Scales scales(device const uchar* matrix, uint unit, uint channel) {
    return sixteen_bytes(part_row(matrix + part_bytes(kFfnWidth, 8u), unit / 32u, 16u), channel);
  }
  static Eight scaled(Scales scales, Eight sums, float) {
    const Eight d = eight_halves(scales);
    return eight(d.low * sums.low, d.high * sums.high);
  }
};

// Nibbles times 16^i, i less by 3 for the last three: no shift for each of them. unshifted() undoes
// it in the sums, exactly. In the last bits of 2^23 they are floats without a conversion.
static inline Eight nibble_levels(uint word) {
  const uint4 low = uint4(word) & uint4(0xfu, 0xf0u, 0xf00u, 0xf000u);
  const uint upper = word >> 12u;
  const uint4 high = uint4(word & 0xf0000u, upper & 0xf00u, upper & 0xf000u, upper & 0xf0000u);
  return eight(as_type<float4>(low | 0x4b000000u) - 8388608.0f,
               as_type<float4>(high | 0x4b000000u) - 8388608.0f);
}
static inline Eight unshifted(Eight sums) {
  const float4 low = float4(1.0f, 0.0625f, 0.00390625f, 0.000244140625f);
  const float4 high = float4(1.52587890625e-5f, 0.00390625f, 0.000244140625f, 1.52587890625e-5f);
  return eight(sums.low * low, sums.high * high);
}

struct UnitsQ4_0 {
  enum { kScaleUnits = 32, kLevelBits = 4 };
  typedef uint Words;
  typedef uint4 Scales;  // eight d

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    return eight_nibbles(part_row(matrix, unit, 4u), channel);
  }
  static Eight levels(Words words) { return nibble_levels(words); }
  static Scales scales(device const uchar* matrix, uint unit, uint channel) {
    return sixteen_bytes(part_row(matrix + part_bytes(kFfnWidth, 4u), unit / 32u, 16u), channel);
  }
  static Eight scaled(Scales scales, Eight sums, float h_sum) {
    const Eight d = eight_halves(scales);
    const Eight levels = unshifted(sums);
    return eight(d.low * (levels.low - 8.0f * h_sum), d.high * (levels.high - 8.0f * h_sum));
  }
};

// Four channels of Q4_K and Q5_K: d scale sums - dmin minimum h_sum. `d` are (d, dmin) of the
// channels, `pairs` their (scale, minimum) bytes.
static inline float4 scale_pairs(uint4 d, uint2 pairs, float4 sums, float h_sum) {
  const float4 scales = float4(float(pairs.x & 0xffu), float(byte_of(pairs.x, 2u)),
                               float(pairs.y & 0xffu), float(byte_of(pairs.y, 2u)));
  const float4 minimums = float4(float(byte_of(pairs.x, 1u)), float(byte_of(pairs.x, 3u)),
                                 float(byte_of(pairs.y, 1u)), float(byte_of(pairs.y, 3u)));
  const float2 d0 = halves_of(d.x);
  const float2 d1 = halves_of(d.y);
  const float2 d2 = halves_of(d.z);
  const float2 d3 = halves_of(d.w);
  return float4(d0.x, d1.x, d2.x, d3.x) * scales * sums -
         float4(d0.y, d1.y, d2.y, d3.y) * minimums * h_sum;
}

// Scales of Q4_K and Q5_K.
struct PairScales {
  uint4 pairs, d0, d1;
};

// `pairs_part` is the part of scales and minimums; d and dmin follow it.
static inline PairScales pair_scales(device const uchar* pairs_part, uint unit, uint channel) {
  device const uchar* d_part = pairs_part + part_bytes(kFfnWidth / 32u, 16u);
  device const uint4* d = (device const uint4*)(part_row(d_part, unit / 256u, 32u) + 4u * channel);
  PairScales scales;
  scales.pairs = sixteen_bytes(part_row(pairs_part, unit / 32u, 16u), channel);
  scales.d0 = d[0];
  scales.d1 = d[1];
  return scales;
}

static inline Eight scaled_by_pairs(PairScales scales, Eight sums, float h_sum) {
  return eight(scale_pairs(scales.d0, uint2(scales.pairs.xy), sums.low, h_sum),
               scale_pairs(scales.d1, uint2(scales.pairs.zw), sums.high, h_sum));
}

struct UnitsQ4_K {
  enum { kScaleUnits = 32, kLevelBits = 4 };
  typedef uint Words;
  typedef PairScales Scales;

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    return eight_nibbles(part_row(matrix, unit, 4u), channel);
  }
  static Eight levels(Words words) { return nibble_levels(words); }
  static Scales scales(device const uchar* matrix, uint unit, uint channel) {
    return pair_scales(matrix + part_bytes(kFfnWidth, 4u), unit, channel);
  }
  static Eight scaled(Scales scales, Eight sums, float h_sum) {
    return scaled_by_pairs(scales, unshifted(sums), h_sum);
  }
};

// Eight levels of a nibble each and `bits` upper bits each.
static inline Eight joined_levels(uint nibbles, uint upper, uint bits) {
  const uint4 index = uint4(0u, 1u, 2u, 3u);
  const uint mask = (1u << bits) - 1u;
  const uint4 low = (uint4(nibbles) >> (4u * index)) & 15u;
  const uint4 high = (uint4(nibbles) >> (4u * index + 16u)) & 15u;
  const uint4 upper_low = (uint4(upper) >> (bits * index)) & mask;
  const uint4 upper_high = (uint4(upper) >> (bits * index + 4u * bits)) & mask;
  return eight(float4(low | (upper_low << 4u)), float4(high | (upper_high << 4u)));
}

struct NibblesAndBits {
  uint nibbles, bits;
};

struct UnitsQ5_K {
  enum { kScaleUnits = 32, kLevelBits = 4 };
  typedef NibblesAndBits Words;
  typedef PairScales Scales;

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* fifths = part_row(matrix + part_bytes(kFfnWidth, 4u), unit, 1u);
    Words words;
    words.nibbles = eight_nibbles(part_row(matrix, unit, 4u), channel);
    words.bits = uint(fifths[channel / 8u]);
    return words;
  }
  static Eight levels(Words words) { return joined_levels(words.nibbles, words.bits, 1u); }
  static Scales scales(device const uchar* matrix, uint unit, uint channel) {
    return pair_scales(matrix + part_bytes(kFfnWidth, 4u) + part_bytes(kFfnWidth, 1u), unit,
                       channel);
  }
  static Eight scaled(Scales scales, Eight sums, float h_sum) {
    return scaled_by_pairs(scales, sums, h_sum);
  }
};

struct UnitsQ6_K {
  enum { kScaleUnits = 16, kLevelBits = 4 };
  typedef NibblesAndBits Words;
  struct Scales {
    uint2 scales;  // eight
    uint4 d;       // eight
  };

  static Words words(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* pairs = part_row(matrix + part_bytes(kFfnWidth, 4u), unit, 2u);
    Words words;
    words.nibbles = eight_nibbles(part_row(matrix, unit, 4u), channel);
    words.bits = uint(((device const ushort*)pairs)[channel / 8u]);
    return words;
  }
  static Eight levels(Words words) { return joined_levels(words.nibbles, words.bits, 2u); }
  static Scales scales(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* scales_part =
        matrix + part_bytes(kFfnWidth, 4u) + part_bytes(kFfnWidth, 2u);
    device const uchar* d_part = scales_part + part_bytes(kFfnWidth / 16u, 8u);
    Scales scales;
    scales.scales = *(device const uint2*)(part_row(scales_part, unit / 16u, 8u) + channel);
    scales.d = sixteen_bytes(part_row(d_part, unit / 256u, 16u), channel);
    return scales;
  }
  static Eight scaled(Scales stored, Eight sums, float h_sum) {
    const Eight scales = eight_chars(stored.scales);
    const Eight d = eight_halves(stored.d);
    return eight(d.low * scales.low * (sums.low - 32.0f * h_sum),
                 d.high * scales.high * (sums.high - 32.0f * h_sum));
  }
};
