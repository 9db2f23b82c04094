#pragma once

#include "formats.h"

// The formats with blocks of 256 columns, which eight lanes share: 32 columns each.

// Q4_K and Q5_K: value d scale q - dmin minimum, with scale and minimum for each group of 32. The
// first 16 bytes of a block are d, dmin and eight 6-bit pairs; each 64 columns have 32 bytes of
// nibbles, low ones for the first group, high ones for the second. Part p of a block is bytes
// 16 p to 16 p + 15 of those: 16 columns of group 2 (p / 2) and 16 of the group after it.
struct GroupPairInputs {
  float4 low[4], high[4];  // of the two groups, times byte_scales
  float2 sums;             // of their x
};

static inline GroupPairInputs load_group_pair(threadgroup const float* x, uint share) {
  threadgroup const float4* quads = (threadgroup const float4*)x + 16u * (share / 2u);
  quads += 4u * (share % 2u);
  GroupPairInputs inputs;
  inputs.sums = float2(0.0f);
  for (uint i = 0u; i < 4u; ++i) {
    inputs.sums += float2(sum4(quads[i]), sum4(quads[8u + i]));
    inputs.low[i] = quads[i] * byte_scales();
    inputs.high[i] = quads[8u + i] * byte_scales();
  }
  return inputs;
}

// Scales and minimums of groups 2 pair and 2 pair + 1.
struct GroupPair {
  float2 scales, minimums;
};

// Bytes 0 to 3 of `header`'s words y, z, w hold: scales of groups 0 to 3 (6 bits) with the upper
// two bits of those of groups 4 to 7; minimums likewise; lower four bits of groups 4 to 7, scales
// in the low nibbles. Two bytes of each word are taken at once.
static inline GroupPair group_pair(uint4 header, uint pair) {
  const uint shift = 16u * (pair % 2u);
  const uint scales = header.y >> shift;
  const uint minimums = header.z >> shift;
  const uint lower = header.w >> shift;
  const bool first = pair < 2u;
  const uint s = first ? scales & 0x3f3fu : (lower & 0x0f0fu) | (scales >> 2 & 0x3030u);
  const uint m = first ? minimums & 0x3f3fu : (lower >> 4 & 0x0f0fu) | (minimums >> 2 & 0x3030u);
  GroupPair result;
  result.scales = float2(float(s & 0xffu), float(s >> 8));
  result.minimums = float2(float(m & 0xffu), float(m >> 8));
  return result;
}

// What is in two groups: `sums` of levels times x, with d and dmin of the header.
static inline float scale_group_pair(uint4 header, uint pair, float2 sums, float2 input_sums) {
  const float2 d = halves_of(header.x);
  const GroupPair groups = group_pair(header, pair);
  return d.x * dot(groups.scales, sums) - d.y * dot(groups.minimums, input_sums);
}

struct Q4_K {
  enum { kColumns = 32 };
  typedef GroupPairInputs Inputs;

  static uint row_bytes(uint columns) { return columns / 256u * 144u; }

  static Inputs load(threadgroup const float* x, uint share) { return load_group_pair(x, share); }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    device const uint4* block = (device const uint4*)row + 9u * (share / 8u);
    const uint part = share % 8u;
    const uint4 header = block[0];
    const uint4 nibbles = block[1u + part];
    float2 sums = float2(0.0f);
    for (uint i = 0u; i < 4u; ++i) {
      sums.x += dot_bytes(nibbles[i] & 0x0f0f0f0fu, inputs.low[i]);
      sums.y += dot_bytes(nibbles[i] & 0xf0f0f0f0u, inputs.high[i]);
    }
    sums.y *= 0.0625f;
    return scale_group_pair(header, part / 2u, sums, inputs.sums);
  }

  static float value(device const uchar* row, uint column) {
    device const uint4* block = (device const uint4*)row + 9u * (column / 256u);
    device const uchar* nibbles = (device const uchar*)(block + 1);
    const uint group = column % 256u / 32u;
    const uint byte = uint(nibbles[32u * (group / 2u) + column % 32u]);
    const uint level = group % 2u == 0u ? byte & 15u : byte >> 4;
    const float2 d = halves_of(block[0].x);
    const GroupPair groups = group_pair(block[0], group / 2u);
    return d.x * groups.scales[group % 2u] * float(level) - d.y * groups.minimums[group % 2u];
  }
};

// As Q4_K with 32 bytes before the nibbles: bit g of byte i is the fifth of column i of group g.
struct Q5_K {
  enum { kColumns = 32 };
  typedef GroupPairInputs Inputs;

  static uint row_bytes(uint columns) { return columns / 256u * 176u; }

  static Inputs load(threadgroup const float* x, uint share) { return load_group_pair(x, share); }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    device const uint4* block = (device const uint4*)row + 11u * (share / 8u);
    const uint part = share % 8u;
    const uint pair = part / 2u;
    const uint4 header = block[0];
    const uint4 fifths = block[1u + part % 2u] >> uint4(2u * pair);
    const uint4 nibbles = block[3u + part];
    float2 sums = float2(0.0f);
    for (uint i = 0u; i < 4u; ++i) {
      const uint low = (nibbles[i] & 0x0f0f0f0fu) | (fifths[i] & 0x01010101u) << 4;
      const uint high = (nibbles[i] >> 4 & 0x0f0f0f0fu) | (fifths[i] & 0x02020202u) << 3;
      sums.x += dot_bytes(low, inputs.low[i]);
      sums.y += dot_bytes(high, inputs.high[i]);
    }
    return scale_group_pair(header, pair, sums, inputs.sums);
  }

  static float value(device const uchar* row, uint column) {
    device const uint4* block = (device const uint4*)row + 11u * (column / 256u);
    device const uchar* fifths = (device const uchar*)(block + 1);
    device const uchar* nibbles = (device const uchar*)(block + 3);
    const uint group = column % 256u / 32u;
    const uint byte = uint(nibbles[32u * (group / 2u) + column % 32u]);
    const uint fifth = uint(fifths[column % 32u]) >> group & 1u;
    const uint level = (group % 2u == 0u ? byte & 15u : byte >> 4) | fifth << 4;
    const float2 d = halves_of(block[0].x);
    const GroupPair groups = group_pair(block[0], group / 2u);
    return d.x * groups.scales[group % 2u] * float(level) - d.y * groups.minimums[group % 2u];
  }
};

// 210 bytes: 128 of low nibbles, 64 of upper bit pairs, 16 signed scales, d; value d scale (q -
// 32), a scale for each 16 columns. Half h of a block, 128 columns, is four quarters of 32: quarter
// k has the nibbles (low for k < 2) of bytes 64 h + 32 (k % 2) + i and bit pair k of upper byte 32
// h + i. A lane takes 8 i of a half, in all quarters.
struct Q6_K {
  enum { kColumns = 32 };
  struct Inputs {
    float4 x[4][2];  // by quarter, times byte_scales
    float4 sums;     // of the quarters' x
  };

  static uint row_bytes(uint columns) { return columns / 256u * 210u; }

  static Inputs load(threadgroup const float* x, uint share) {
    threadgroup const float4* quads = (threadgroup const float4*)x + 32u * (share / 4u);
    quads += 2u * (share % 4u);
    Inputs inputs;
    for (uint k = 0u; k < 4u; ++k) {
      inputs.sums[k] = sum4(quads[8u * k]) + sum4(quads[8u * k + 1u]);
      inputs.x[k][0] = quads[8u * k] * byte_scales();
      inputs.x[k][1] = quads[8u * k + 1u] * byte_scales();
    }
    return inputs;
  }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    device const uchar* block = row + 210u * (share / 8u);
    const uint half_block = share % 8u / 4u;
    const uint first = share % 4u;  // of the i, in eights
    device const ushort* low = (device const ushort*)block + 32u * half_block + 4u * first;
    device const ushort* upper =
        (device const ushort*)(block + 128u) + 16u * half_block + 4u * first;
    device const char* scales = (device const char*)(block + 192u) + 8u * half_block + first / 2u;
    float4 sums = float4(0.0f);
    for (uint i = 0u; i < 2u; ++i) {
      const uint even = load_word(low, i);
      const uint odd = load_word(low + 16u, i);
      const uint pairs = load_word(upper, i);
      const uint level0 = (even & 0x0f0f0f0fu) | (pairs << 4 & 0x30303030u);
      const uint level1 = (odd & 0x0f0f0f0fu) | (pairs << 2 & 0x30303030u);
      const uint level2 = (even >> 4 & 0x0f0f0f0fu) | (pairs & 0x30303030u);
      const uint level3 = (odd >> 4 & 0x0f0f0f0fu) | (pairs >> 2 & 0x30303030u);
      sums += float4(dot_bytes(level0, inputs.x[0][i]), dot_bytes(level1, inputs.x[1][i]),
                     dot_bytes(level2, inputs.x[2][i]), dot_bytes(level3, inputs.x[3][i]));
    }
    const float4 by_scale =
        float4(float(scales[0]), float(scales[2]), float(scales[4]), float(scales[6]));
    return load_half(block + 208u) * dot(by_scale, sums - 32.0f * inputs.sums);
  }

  static float value(device const uchar* row, uint column) {
    device const uchar* block = row + 210u * (column / 256u);
    const uint half_block = column % 256u / 128u;
    const uint quarter = column % 128u / 32u;
    const uint i = column % 32u;
    const uint nibbles =
        uint(block[64u * half_block + 32u * (quarter % 2u) + i]) >> (4u * (quarter / 2u));
    const uint pair = uint(block[128u + 32u * half_block + i]) >> (2u * quarter);
    const uint level = (nibbles & 15u) | (pair & 3u) << 4;
    const float scale = float(((device const char*)(block + 192u))[column % 256u / 16u]);
    return load_half(block + 208u) * scale * (float(level) - 32.0f);
  }
};
