#pragma once

#include "../model.h"
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
// integers and still exact to 15 bits; 32 high bytes, then 32 low ones. Of 32 channels, 4 t to
// 4 t + 3 are bytes 8 t and following, 16 + 4 t to 16 + 4 t + 3 the four behind them: as a lane
// reads them (tiles.h). `scales` are (scale, scale (sum of q)) of each 32.
struct SharedVector {
  threadgroup float* values;
  threadgroup uchar* planes;
  threadgroup float2* scales;
};

static inline SharedVector shared_vector(threadgroup uchar* memory) {
  SharedVector vector;
  vector.values = (threadgroup float*)memory;
  vector.planes = memory;
  vector.scales = (threadgroup float2*)(memory + 2u * kWidth);
  return vector;
}

static inline uint quad_count() {
  return kWidth / 4u;
}

// Whether thread `index` has an i-th quad: all of its SIMD group have one, or none.
static inline bool has_quad(uint index, uint i) {
  return index + i * GANDER_TOKEN_THREADS < quad_count();
}

// Channels of a warp.
static inline float warp_channels(uint warp) {
  float count = 0.0f;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) count += has_quad(32u * warp, i) ? 128.0f : 0.0f;
  return count;
}

static inline float sum_of_quad(float4 quad) {
  return (quad.x + quad.y) + (quad.z + quad.w);
}

static inline Quads load_quads(device const float* from, uint index) {
  Quads quads;
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    quads.at[i] = has_quad(index, i) ? ((device const float4*)from)[quad] : float4(0.0f);
  }
  return quads;
}

static inline void store_quads(Quads quads, device float* to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    if (has_quad(index, i)) ((device float4*)to)[quad] = quads.at[i];
  }
}

static inline float2 summed(float2 sums, ushort distance) {
  return sums + float2(simd_shuffle_xor(sums.x, distance), simd_shuffle_xor(sums.y, distance));
}

// LayerNorm. Distances from a pivot and their squares are summed together, where distances from the
// mean would have to wait for it: first a warp's, from the mean of its first quad, then those of
// all warps, from the first one's mean. A pivot that is the mean of n of N channels costs the sum
// of squares log2(1 + N / n) bits at most, here 5: n (pivot - mean)^2 is no more than that sum.
// `partials` has two floats for each warp, and may be used again after the next barrier.
static inline Quads normalize(Quads x, Quads weight, Quads bias, threadgroup float2* partials,
                              uint warp, uint lane) {
  const uint index = 32u * warp + lane;
  const float pivot = simd_shuffle(sum_of_quad(x.at[0]), ushort(0)) * 0.25f;
  float2 sums = float2(0.0f);
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    if (!has_quad(index, i)) continue;
    const float4 distance = x.at[i] - pivot;
    sums += float2(sum_of_quad(distance), sum_of_quad(distance * distance));
  }
  for (ushort distance = 16; distance > 0; distance /= 2) sums = summed(sums, distance);
  const float count = warp_channels(warp);
  const float own_mean = count > 0.0f ? sums.x * reciprocal(count) : 0.0f;
  // Squared distances from the warp's own mean.
  if (lane == 0u) partials[warp] = float2(pivot + own_mean, sums.y - sums.x * own_mean);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // A lane for each warp's.
  const float first_mean = partials[0].x;
  const float2 part = partials[lane % GANDER_TOKEN_WARPS];
  const float channels = warp_channels(lane % GANDER_TOKEN_WARPS);
  const float apart = part.x - first_mean;
  float2 all =
      channels > 0.0f ? float2(channels * apart, part.y + channels * apart * apart) : float2(0.0f);
  for (ushort distance = 8; distance > 0; distance /= 2) all = summed(all, distance);
  const float mean_apart = all.x * (1.0f / float(kWidth));
  const float mean = first_mean + mean_apart;
  const float deviations = all.y - all.x * mean_apart;
  const float scale = precise::rsqrt(deviations * (1.0f / float(kWidth)) + kNormEpsilon);
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    if (has_quad(index, i)) x.at[i] = (x.at[i] - mean) * scale * weight.at[i] + bias.at[i];
  }
  return x;
}

static inline void store_floats(Quads quads, SharedVector to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    if (!has_quad(index, i)) continue;
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    const uint in_block = quad % 64u;
    const uint place = quad / 64u * 64u + in_block % 2u * 32u + in_block / 2u;
    ((threadgroup float4*)to.values)[place] = quads.at[i];
  }
}

static inline uint bytes_of(int4 values) {
  return uint(values.x & 255) | uint(values.y & 255) << 8u | uint(values.z & 255) << 16u |
         uint(values.w & 255) << 24u;
}

// Eight lanes have the 32 channels of a scale.
static inline void store_quantised(Quads quads, SharedVector to, uint index) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) {
    if (!has_quad(index, i)) continue;
    const uint quad = index + i * GANDER_TOKEN_THREADS;
    const float4 size = abs(quads.at[i]);
    float largest = max(max(size.x, size.y), max(size.z, size.w));
    largest = max(largest, simd_shuffle_xor(largest, 1));
    largest = max(largest, simd_shuffle_xor(largest, 2));
    largest = max(largest, simd_shuffle_xor(largest, 4));
    const float scale = largest * (1.0f / 32639.0f);
    const float inverse = scale > 1e-30f ? reciprocal(scale) : 0.0f;
    const int4 q = int4(rint(quads.at[i] * inverse));
    const int4 high = (q + 128) >> 8;
    const int4 low = q - high * 256;
    int sum = (q.x + q.y) + (q.z + q.w);
    sum += simd_shuffle_xor(sum, 1);
    sum += simd_shuffle_xor(sum, 2);
    sum += simd_shuffle_xor(sum, 4);
    const uint at = quad / 8u * 64u + quad % 4u * 8u + quad / 4u % 2u * 4u;
    *(threadgroup uint*)(to.planes + at) = bytes_of(high);
    *(threadgroup uint*)(to.planes + at + 32u) = bytes_of(low);
    if (quad % 8u == 0u) to.scales[quad / 8u] = float2(scale, scale * float(sum));
  }
}

static inline void store_vector(Quads quads, SharedVector to, bool quantised, uint index) {
  if (quantised) {
    store_quantised(quads, to, index);
  } else {
    store_floats(quads, to, index);
  }
}
