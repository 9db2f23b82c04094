#pragma once

#include "../formats.h"
#include "vector.h"

// 256 columns of a row of weights in thread-group memory times the vector. A format says
//   kBytes  of a block
//   kLanes  lanes that share a block
//   multiply(block, part, x, number)   what lane `part` of them adds to the row's product, where
//   the
//                                      block is number `number` of the row
// Blocks are those of the file, but rearranged where a block of the file is no multiple of 16
// bytes: backend/gpu/cuda/row_blocks.h.

// The sum over 16 weights, in the bytes of q, times the vector's integers.
static inline int products_of_16(uint4 q, threadgroup const char* high,
                                 threadgroup const char* low) {
  const int4 h = *(threadgroup const int4*)high;
  const int4 l = *(threadgroup const int4*)low;
  int sum = dot4(int(q.x), h.x, 0);
  int sum_low = dot4(int(q.x), l.x, 0);
  sum = dot4(int(q.y), h.y, sum);
  sum_low = dot4(int(q.y), l.y, sum_low);
  sum = dot4(int(q.z), h.z, sum);
  sum_low = dot4(int(q.z), l.z, sum_low);
  sum = dot4(int(q.w), h.w, sum);
  sum_low = dot4(int(q.w), l.w, sum_low);
  return sum * 256 + sum_low;
}
// For bytes up to 240: high nibbles that stayed where they were.
static inline int unsigned_products_of_16(uint4 q, threadgroup const char* high,
                                          threadgroup const char* low) {
  const int4 h = *(threadgroup const int4*)high;
  const int4 l = *(threadgroup const int4*)low;
  int sum = dot4_unsigned(q.x, h.x, 0);
  int sum_low = dot4_unsigned(q.x, l.x, 0);
  sum = dot4_unsigned(q.y, h.y, sum);
  sum_low = dot4_unsigned(q.y, l.y, sum_low);
  sum = dot4_unsigned(q.z, h.z, sum);
  sum_low = dot4_unsigned(q.z, l.z, sum_low);
  sum = dot4_unsigned(q.w, h.w, sum);
  sum_low = dot4_unsigned(q.w, l.w, sum_low);
  return sum * 256 + sum_low;
}

// A lane's 32 columns of a block in nibbles: the low ones are 16 columns, the high ones the 16 that
// come 32 later. products times the vector's scales, and the vector's sums.
struct Halves {
  float2 products, sums;
};

static inline Halves multiply_halves(int low, int high, float high_unit, uint part, SharedVector x,
                                     uint number) {
  const float2 scales = *(threadgroup const float2*)(x.scales + 8u * number + (part >> 1u) * 2u);
  Halves halves;
  halves.products = float2(scales.x * float(low), scales.y * high_unit * float(high));
  halves.sums = *(threadgroup const float2*)(x.sums + 16u * number + 2u * part);
  return halves;
}

// Nibbles. High ones count 16 times.
static inline Halves multiply_nibbles(uint4 q, uint part, SharedVector x, uint number) {
  const uint at = 256u * number + 16u * part;
  return multiply_halves(
      products_of_16(q & 0x0f0f0f0fu, x.high + at, x.low + at),
      unsigned_products_of_16(q & 0xf0f0f0f0u, x.high + at + 128u, x.low + at + 128u), 0.0625f,
      part, x, number);
}

static inline Halves multiply_bytes(uint4 low, uint4 high, uint part, SharedVector x, uint number) {
  const uint at = 256u * number + 16u * part;
  return multiply_halves(products_of_16(low, x.high + at, x.low + at),
                         products_of_16(high, x.high + at + 128u, x.low + at + 128u), 1.0f, part, x,
                         number);
}

// d scale q - dmin minimum for both halves of a lane: `header` is d, dmin and the 6-bit scales and
// minimums of a block of Q4_K or Q5_K.
static inline float scale_halves(uint4 header, uint part, Halves halves) {
  const uint shift = (part >> 1u & 1u) * 16u;
  const uint y = header.y >> shift;
  const uint z = header.z >> shift;
  const uint w = header.w >> shift;
  const bool first = part < 4u;
  const uint scales = first ? y & 0x3f3fu : (w & 0x0f0fu) | (y >> 2u & 0x3030u);
  const uint minimums = first ? z & 0x3f3fu : (w >> 4u & 0x0f0fu) | (z >> 2u & 0x3030u);
  const float2 d = halves_of(header.x);
  const float2 scaled = float2(float(scales & 255u), float(scales >> 8u & 255u)) * halves.products;
  const float2 offset = float2(float(minimums & 255u), float(minimums >> 8u & 255u)) * halves.sums;
  return d.x * (scaled.x + scaled.y) - d.y * (offset.x + offset.y);
}

struct BlockQ4_K {
  enum { kBytes = 144, kLanes = 8 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const uint4 header = *(threadgroup const uint4*)block;
    const uint4 q = *(threadgroup const uint4*)(block + 16u + 16u * part);
    return scale_halves(header, part, multiply_nibbles(q, part, x, number));
  }
};

struct BlockQ5_K {
  enum { kBytes = 176, kLanes = 8 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const uint4 header = *(threadgroup const uint4*)block;
    const uint4 fifth =
        *(threadgroup const uint4*)(block + 16u + (part & 1u) * 16u) >> ((part >> 1u) * 2u);
    const uint4 q = *(threadgroup const uint4*)(block + 48u + 16u * part);
    const uint4 low = (q & 0x0f0f0f0fu) | (fifth & 0x01010101u) << 4u;
    const uint4 high = (q >> 4u & 0x0f0f0f0fu) | (fifth >> 1u & 0x01010101u) << 4u;
    return scale_halves(header, part, multiply_bytes(low, high, part, x, number));
  }
};

// 16 signed scales in the lanes' order, nibbles as in Q4_K, for each lane the upper two bits of its
// low and of its high columns, d and padding.
struct BlockQ6_K {
  enum { kBytes = 224, kLanes = 8 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const uint scales = *(threadgroup const ushort*)(block + 2u * part);
    const uint4 q = *(threadgroup const uint4*)(block + 16u + 16u * part);
    const uint2 upper = *(threadgroup const uint2*)(block + 144u + 8u * part);
    const float d = float(*(threadgroup const half*)(block + 208u));
    const uint4 shift = uint4(0u, 2u, 4u, 6u);
    const uint4 low = (q & 0x0f0f0f0fu) | (uint4(upper.x) >> shift & 0x03030303u) << 4u;
    const uint4 high = (q >> 4u & 0x0f0f0f0fu) | (uint4(upper.y) >> shift & 0x03030303u) << 4u;
    const Halves halves = multiply_bytes(low, high, part, x, number);
    const float2 values = halves.products - 32.0f * halves.sums;
    return d * (float(char(scales & 255u)) * values.x + float(char(scales >> 8u)) * values.y);
  }
};

// Eight d, then nibbles in the order of Q4_K.
struct BlockQ4_0 {
  enum { kBytes = 144, kLanes = 8 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const float2 d = halves_of(*(threadgroup const uint*)(block + (part >> 1u) * 4u));
    const uint4 q = *(threadgroup const uint4*)(block + 16u + 16u * part);
    const Halves halves = multiply_nibbles(q, part, x, number);
    const float2 values = d * (halves.products - 8.0f * halves.sums);
    return values.x + values.y;
  }
};

// Eight d, then 256 signed bytes.
struct BlockQ8_0 {
  enum { kBytes = 272, kLanes = 16 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const float d = float(*(threadgroup const half*)(block + (part >> 1u) * 2u));
    const uint4 q = *(threadgroup const uint4*)(block + 16u + 16u * part);
    const uint at = 256u * number + 16u * place_of(part);
    const float scale = x.scales[8u * number + (part >> 1u)];
    return d * scale * float(products_of_16(q, x.high + at, x.low + at));
  }
};

// Eight columns of float weights.
static inline float multiply_8(float4 first, float4 second, uint part, SharedVector x,
                               uint number) {
  threadgroup const float4* quads = (threadgroup const float4*)x.values + 64u * number + part;
  const float4 products = first * quads[0] + second * quads[32];
  return sum_of_quad(products);
}

struct BlockF16 {
  enum { kBytes = 512, kLanes = 32 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const uint4 w = *(threadgroup const uint4*)(block + 16u * part);
    return multiply_8(float4(halves_of(w.x), halves_of(w.y)),
                      float4(halves_of(w.z), halves_of(w.w)), part, x, number);
  }
};

struct BlockBF16 {
  enum { kBytes = 512, kLanes = 32 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    const uint4 w = *(threadgroup const uint4*)(block + 16u * part);
    return multiply_8(float4(bfloats_of(w.x), bfloats_of(w.y)),
                      float4(bfloats_of(w.z), bfloats_of(w.w)), part, x, number);
  }
};

struct BlockF32 {
  enum { kBytes = 1024, kLanes = 32 };

  static float multiply(threadgroup const uchar* block, uint part, SharedVector x, uint number) {
    threadgroup const float4* w = (threadgroup const float4*)block + 2u * part;
    return multiply_8(w[0], w[1], part, x, number);
  }
};
