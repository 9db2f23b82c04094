#include <metal_stdlib>
using namespace metal;

#include "../function_constants.h"
#include "parameters.h"

// The recurrence of time mixing, and what prepares its operands. Rows of a chunk are [H N] values,
// a head after the other; S is [H][N][N], row i = value index, column j = key index.

// k = k ∘ (1 + (a - 1) ∘ k_a)
kernel void control_k_v7(device const float* k_a [[buffer(0)]],
                         device const float* a [[buffer(1)]],
                         device float* k [[buffer(2)]],
                         constant BroadcastParameters& parameters [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) k[i] *= 1.0f + (a[i] - 1.0f) * k_a[i % parameters.period];
}

// packed[t] = k, v, a, kk: [T][4][C], so that a token's operands lie together.
kernel void pack_kvakk(device const float* k [[buffer(0)]],
                       device const float* v [[buffer(1)]],
                       device const float* a [[buffer(2)]],
                       device const float* kk [[buffer(3)]],
                       device float* packed [[buffer(4)]],
                       constant ChunkParameters& parameters [[buffer(5)]],
                       uint i [[thread_position_in_grid]]) {
  const uint width = parameters.width;
  if (i >= parameters.tokens * width) return;
  device float* token = packed + ulong(i / width) * 4 * width + i % width;
  token[0] = k[i];
  token[width] = v[i];
  token[2 * width] = a[i];
  token[3 * width] = kk[i];
}

// For each token in turn
//   s = -sum_j S_ij kk_j;   S_ij = S_ij w_j + s kk_j a_j + v_i k_j;   y_i = sum_j S_ij r_j
// A SIMD group keeps a row of S in registers over the whole chunk: rows do not meet.
kernel void time_mix_v7(device const float* r [[buffer(0)]],
                        device const float* w [[buffer(1)]],
                        device const float* packed [[buffer(2)]],
                        device float* state [[buffer(3)]],
                        device float* y [[buffer(4)]],
                        constant HeadsParameters& parameters [[buffer(5)]],
                        uint group [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  constexpr uint kColumns = GANDER_MAX_HEAD_SIZE / 32;  // of a lane
  const uint size = parameters.head_size;
  const uint width = parameters.heads * size;
  const uint row = group * simdgroups + simdgroup;  // over all heads
  if (row >= width) return;
  const uint head = row / size * size;  // its first channel
  device float* stored = state + ulong(row) * size;

  // All loops over s have a constant bound, so that it stays in registers.
  float s[kColumns];
  for (uint n = 0, j = lane; n < kColumns; ++n, j += 32) s[n] = j < size ? stored[j] : 0.0f;
  for (uint t = 0; t < parameters.tokens; ++t) {
    device const float* rt = r + ulong(t) * width + head;
    device const float* wt = w + ulong(t) * width + head;
    device const float* kt = packed + ulong(t) * 4 * width + head;
    device const float* at = kt + 2 * width;
    device const float* kkt = kt + 3 * width;
    const float v = packed[(ulong(t) * 4 + 1) * width + row];
    float removed = 0.0f;
    for (uint n = 0, j = lane; n < kColumns; ++n, j += 32) {
      if (j < size) removed -= s[n] * kkt[j];
    }
    removed = simd_sum(removed);
    float sum = 0.0f;
    for (uint n = 0, j = lane; n < kColumns; ++n, j += 32) {
      if (j >= size) continue;
      s[n] = s[n] * wt[j] + removed * kkt[j] * at[j] + v * kt[j];
      sum += s[n] * rt[j];
    }
    sum = simd_sum(sum);
    if (lane == 0) y[ulong(t) * width + row] = sum;
  }
  for (uint n = 0, j = lane; n < kColumns; ++n, j += 32) {
    if (j < size) stored[j] = s[n];
  }
}

// The bonus of the current token, for each head: y = y + (sum_j r_j k_j r_k_j) v. A SIMD group a
// head of a token.
kernel void time_first_v7(device const float* r_k [[buffer(0)]],
                          device const float* r [[buffer(1)]],
                          device const float* packed [[buffer(2)]],
                          device float* y [[buffer(3)]],
                          constant HeadsParameters& parameters [[buffer(4)]],
                          uint group [[threadgroup_position_in_grid]],
                          uint lane [[thread_index_in_simdgroup]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint size = parameters.head_size;
  const uint width = parameters.heads * size;
  const uint item = group * simdgroups + simdgroup;  // head of a token
  if (item >= parameters.tokens * parameters.heads) return;
  const uint t = item / parameters.heads;
  const uint head = item % parameters.heads * size;  // its first channel
  device const float* rt = r + ulong(t) * width + head;
  device const float* kt = packed + ulong(t) * 4 * width + head;
  device const float* vt = kt + width;
  device float* yt = y + ulong(t) * width + head;
  float bonus = 0.0f;
  for (uint j = lane; j < size; j += 32) bonus += rt[j] * kt[j] * r_k[head + j];
  bonus = simd_sum(bonus);
  for (uint j = lane; j < size; j += 32) yt[j] += bonus * vt[j];
}
