#pragma once

#include "../group.h"
#include "token_parameters.h"

// The vector of C that rows are multiplied by. Every block prepares it for itself: a thread has the
// channels of quads index and index + 512, in registers.

#define GANDER_QUADS (GANDER_TOKEN_MAX_WIDTH / 4 / GANDER_TOKEN_THREADS)

struct Quads {
  float4 at[GANDER_QUADS];
};

// The vector in thread-group memory, in one of two forms. For float weights: floats, in each block
// of 256 the first quads of its 32 groups of 8, then the second ones. For quantised weights: 16-bit
// integers q = 256 high + low for each 32 channels' own scale, so that products are those of 8-bit
// integers and still exact to 15 bits; and sum = scale (sum of q) of each 16 channels. The order of
// 16s in a block is that in which the lanes of multiply_block read them: place_of().
struct SharedVector {
  threadgroup float* values;
  threadgroup char* high;
  threadgroup char* low;
  threadgroup float* scales;  // [C / 32]
  threadgroup float* sums;    // [C / 16]: of the same lane's two 16s together
};

static inline SharedVector shared_vector(threadgroup uchar* memory) {
  SharedVector vector;
  vector.values = (threadgroup float*)memory;
  vector.high = (threadgroup char*)memory;
  vector.low = vector.high + kWidth;
  vector.scales = (threadgroup float*)(memory + 2u * kWidth);
  vector.sums = vector.scales + kWidth / 32u;
  return vector;
}

// Where the 16 channels number `part` of a block are.
static inline uint place_of(uint part) {
  return (part >> 1u & 1u) * 8u + (part >> 2u) * 2u + (part & 1u);
}

static inline uint quad_count() {
  return kWidth / 4u;
}

static inline float sum_of_quad(float4 quad) {
  return (quad.x + quad.y) + (quad.z + quad.w);
}

static inline Quads load_quads(device const float* from, uint index) {
  Quads quads;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    quads.at[i] = quad < quad_count() ? ((device const float4*)from)[quad] : float4(0.0f);
  }
  return quads;
}

static inline void store_quads(Quads quads, device float* to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    if (quad < quad_count()) ((device float4*)to)[quad] = quads.at[i];
  }
}

// The sum over the block, of the warps' sums in order. `partials` has a float for each warp; it may
// be used again after the next barrier.
static inline float block_sum(float value, threadgroup float* partials, uint warp, uint lane) {
  const float sum = simd_sum(value);
  if (lane == 0u) partials[warp] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float4 total = float4(0.0f);
  threadgroup const float4* quads = (threadgroup const float4*)partials;
  for (uint i = 0u; i < GANDER_TOKEN_WARPS / 4; ++i) total += quads[i];
  return sum_of_quad(total);
}

// LayerNorm; `norm` is [2][C]. `partials` has two floats for each warp.
static inline Quads normalize(Quads x, device const float* norm, threadgroup float* partials,
                              uint warp, uint lane) {
  const uint index = 32u * warp + lane;
  const Quads weight = load_quads(norm, index);
  const Quads bias = load_quads(norm + kWidth, index);
  float sum = 0.0f;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) sum += sum_of_quad(x.at[i]);
  const float mean = block_sum(sum, partials, warp, lane) / float(kWidth);
  float squares = 0.0f;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const float4 deviation = x.at[i] - mean;
    const bool inside = index + i * GANDER_TOKEN_THREADS < quad_count();
    squares += inside ? sum_of_quad(deviation * deviation) : 0.0f;
  }
  const float variance =
      block_sum(squares, partials + GANDER_TOKEN_WARPS, warp, lane) / float(kWidth);
  const float scale = precise::rsqrt(variance + kNormEpsilon);
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    x.at[i] = (x.at[i] - mean) * scale * weight.at[i] + bias.at[i];
  }
  return x;
}

static inline void store_floats(Quads quads, SharedVector to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    if (quad >= quad_count()) continue;
    const uint in_block = quad % 64u;
    const uint place = quad / 64u * 64u + in_block % 2u * 32u + in_block / 2u;
    ((threadgroup float4*)to.values)[place] = quads.at[i];
  }
}

// Eight lanes have the 32 channels of a scale.
static inline void store_quantised(Quads quads, SharedVector to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    if (quad >= quad_count()) continue;  // whole warps: C is a multiple of 256
    const float4 size = abs(quads.at[i]);
    float largest = max(max(size.x, size.y), max(size.z, size.w));
    for (ushort distance = 1; distance < 8; distance *= 2) {
      largest = max(largest, simd_shuffle_xor(largest, distance));
    }
    const float scale = largest * (1.0f / 32639.0f);
    const float inverse = largest > 0.0f ? 32639.0f / largest : 0.0f;
    const int4 q = int4(rint(quads.at[i] * inverse));
    const int4 high = (q + 128) >> 8;
    const int4 low = q - high * 256;
    const uint part = quad / 4u % 16u;
    const uint at = quad / 64u * 256u + place_of(part) * 16u + quad % 4u * 4u;
    *(threadgroup uint*)(to.high + at) = uint(high.x & 255) | uint(high.y & 255) << 8u |
                                         uint(high.z & 255) << 16u | uint(high.w & 255) << 24u;
    *(threadgroup uint*)(to.low + at) = uint(low.x & 255) | uint(low.y & 255) << 8u |
                                        uint(low.z & 255) << 16u | uint(low.w & 255) << 24u;
    int sum = (q.x + q.y) + (q.z + q.w);
    sum += simd_shuffle_xor(sum, 1);
    sum += simd_shuffle_xor(sum, 2);
    if (quad % 8u == 0u) to.scales[quad / 8u] = scale;
    const uint lane_of_part = part >> 2u << 1u | (part & 1u);
    if (quad % 4u == 0u) {
      to.sums[quad / 64u * 16u + lane_of_part * 2u + (part >> 1u & 1u)] = scale * float(sum);
    }
  }
}

static inline void store_vector(Quads quads, SharedVector to, bool quantised, uint index) {
  if (quantised) {
    store_quantised(quads, to, index);
  } else {
    store_floats(quads, to, index);
  }
}
