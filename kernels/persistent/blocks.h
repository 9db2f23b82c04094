#pragma once

#include "../formats.h"
#include "vector.h"

// 256 columns of a row of float weights in thread-group memory times the vector, eight columns a
// lane. `number` says which 256 of the row.

// Eight columns of float weights.
static inline float multiply_8(float4 first, float4 second, uint lane, SharedVector x,
                               uint number) {
  threadgroup const float4* quads = (threadgroup const float4*)x.values + 64u * number + lane;
  const float4 products = first * quads[0] + second * quads[32];
  return sum_of_quad(products);
}

struct BlockF16 {
  enum { kBytes = 512 };

  static float multiply(threadgroup const uchar* block, uint lane, SharedVector x, uint number) {
    const uint4 w = *(threadgroup const uint4*)(block + 16u * lane);
    return multiply_8(float4(halves_of(w.x), halves_of(w.y)),
                      float4(halves_of(w.z), halves_of(w.w)), lane, x, number);
  }
};

struct BlockBF16 {
  enum { kBytes = 512 };

  static float multiply(threadgroup const uchar* block, uint lane, SharedVector x, uint number) {
    const uint4 w = *(threadgroup const uint4*)(block + 16u * lane);
    return multiply_8(float4(bfloats_of(w.x), bfloats_of(w.y)),
                      float4(bfloats_of(w.z), bfloats_of(w.w)), lane, x, number);
  }
};

struct BlockF32 {
  enum { kBytes = 1024 };

  static float multiply(threadgroup const uchar* block, uint lane, SharedVector x, uint number) {
    threadgroup const float4* w = (threadgroup const float4*)block + 2u * lane;
    return multiply_8(w[0], w[1], lane, x, number);
  }
};
