#pragma once

#include "formats.h"
#include "model.h"

// The ffn value matrix by hidden unit, as kernels/README.md lays it out. A lane takes 8 channels. A
// format says
//   kScaleUnits                    hidden units that share a channel's scale
//   levels(matrix, unit, channel)  the stored levels of a unit, for channels channel to channel + 7
//   scaled(matrix, unit, channel, sums, h_sum)
//                                  what units with one scale, `unit` among them, add to the
//                                  channels: sums = sum of h levels, h_sum = sum of h

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

static inline Eight eight_halves(device const uchar* row, uint channel) {
  const uint4 words = *(device const uint4*)(row + 2u * channel);
  return eight(float4(halves_of(words.x), halves_of(words.y)),
               float4(halves_of(words.z), halves_of(words.w)));
}

static inline Eight eight_chars(device const uchar* row, uint channel) {
  const uint2 words = *(device const uint2*)(row + channel);
  return eight(float4(as_type<char4>(words.x)), float4(as_type<char4>(words.y)));
}

static inline uint eight_nibbles(device const uchar* row, uint channel) {
  return *(device const uint*)(row + channel / 2u);
}

struct UnitsF32 {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    device const float4* row = (device const float4*)part_row(matrix, unit, 32u);
    return eight(row[channel / 4u], row[channel / 4u + 1u]);
  }

  static Eight scaled(device const uchar*, uint, uint, Eight sums, float) { return sums; }
};

struct UnitsF16 {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    return eight_halves(part_row(matrix, unit, 16u), channel);
  }

  static Eight scaled(device const uchar*, uint, uint, Eight sums, float) { return sums; }
};

struct UnitsBF16 {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    const uint4 words = *(device const uint4*)(part_row(matrix, unit, 16u) + 2u * channel);
    return eight(float4(bfloats_of(words.x), bfloats_of(words.y)),
                 float4(bfloats_of(words.z), bfloats_of(words.w)));
  }

  static Eight scaled(device const uchar*, uint, uint, Eight sums, float) { return sums; }
};

struct UnitsQ8_0 {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    return eight_chars(part_row(matrix, unit, 8u), channel);
  }

  static Eight scaled(device const uchar* matrix, uint unit, uint channel, Eight sums, float) {
    device const uchar* d_part = matrix + part_bytes(kFfnWidth, 8u);
    const Eight d = eight_halves(part_row(d_part, unit / 32u, 16u), channel);
    return eight(d.low * sums.low, d.high * sums.high);
  }
};

// Nibble i of the word times 16^i: no shifts; unshifted() undoes it in the sums, exactly.
static inline Eight nibble_levels(uint word) {
  return eight(float4(uint4(word) & uint4(0xfu, 0xf0u, 0xf00u, 0xf000u)),
               float4(uint4(word) & uint4(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u)));
}
static inline Eight unshifted(Eight sums) {
  const float4 scales = float4(1.0f, 0.0625f, 0.00390625f, 0.000244140625f);
  return eight(sums.low * scales, sums.high * (scales * 1.52587890625e-5f));
}

struct UnitsQ4_0 {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    return nibble_levels(eight_nibbles(part_row(matrix, unit, 4u), channel));
  }

  static Eight scaled(device const uchar* matrix, uint unit, uint channel, Eight sums,
                      float h_sum) {
    device const uchar* d_part = matrix + part_bytes(kFfnWidth, 4u);
    const Eight d = eight_halves(part_row(d_part, unit / 32u, 16u), channel);
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

// `pairs_part` is the part of scales and minimums; d and dmin follow it.
static inline Eight scale_by_pairs(device const uchar* pairs_part, uint unit, uint channel,
                                   Eight sums, float h_sum) {
  device const uchar* d_part = pairs_part + part_bytes(kFfnWidth / 32u, 16u);
  device const uchar* pairs_row = part_row(pairs_part, unit / 32u, 16u);
  device const uint4* d = (device const uint4*)(part_row(d_part, unit / 256u, 32u) + 4u * channel);
  const uint4 pairs = *(device const uint4*)(pairs_row + 2u * channel);
  return eight(scale_pairs(d[0], pairs.xy, sums.low, h_sum),
               scale_pairs(d[1], pairs.zw, sums.high, h_sum));
}

struct UnitsQ4_K {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    return nibble_levels(eight_nibbles(part_row(matrix, unit, 4u), channel));
  }

  static Eight scaled(device const uchar* matrix, uint unit, uint channel, Eight sums,
                      float h_sum) {
    return scale_by_pairs(matrix + part_bytes(kFfnWidth, 4u), unit, channel, unshifted(sums),
                          h_sum);
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

struct UnitsQ5_K {
  enum { kScaleUnits = 32 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* fifths = part_row(matrix + part_bytes(kFfnWidth, 4u), unit, 1u);
    return joined_levels(eight_nibbles(part_row(matrix, unit, 4u), channel),
                         uint(fifths[channel / 8u]), 1u);
  }

  static Eight scaled(device const uchar* matrix, uint unit, uint channel, Eight sums,
                      float h_sum) {
    return scale_by_pairs(matrix + part_bytes(kFfnWidth, 4u) + part_bytes(kFfnWidth, 1u), unit,
                          channel, sums, h_sum);
  }
};

struct UnitsQ6_K {
  enum { kScaleUnits = 16 };

  static Eight levels(device const uchar* matrix, uint unit, uint channel) {
    device const uchar* pairs = part_row(matrix + part_bytes(kFfnWidth, 4u), unit, 2u);
    return joined_levels(eight_nibbles(part_row(matrix, unit, 4u), channel),
                         uint(((device const ushort*)pairs)[channel / 8u]), 2u);
  }

  static Eight scaled(device const uchar* matrix, uint unit, uint channel, Eight sums,
                      float h_sum) {
    device const uchar* scales_part =
        matrix + part_bytes(kFfnWidth, 4u) + part_bytes(kFfnWidth, 2u);
    device const uchar* d_part = scales_part + part_bytes(kFfnWidth / 16u, 8u);
    const Eight scales = eight_chars(part_row(scales_part, unit / 16u, 8u), channel);
    const Eight d = eight_halves(part_row(d_part, unit / 256u, 16u), channel);
    return eight(d.low * scales.low * (sums.low - 32.0f * h_sum),
                 d.high * scales.high * (sums.high - 32.0f * h_sum));
  }
};
