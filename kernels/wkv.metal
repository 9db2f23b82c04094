#include <metal_stdlib>
using namespace metal;

#include "activations.h"
#include "dot_rows.h"
#include "group.h"
#include "parameters.h"

// Columns of a head that a lane has: lane, lane + 32, ...
#define GANDER_LANE_COLUMNS (GANDER_MAX_HEAD_SIZE / 32)

// Where the parts of the thread-group memory begin: the four low-rank vectors, then an array for
// the head's channels each. GANDER_WKV_SCRATCH gives their size.
struct WkvScratch {
  threadgroup float *w, *a, *v, *g;                    // low-rank vectors
  threadgroup float *decay, *rate, *value, *gate, *y;  // [N]; rate is a, value is mixed
};

static inline WkvScratch wkv_scratch(threadgroup float* scratch) {
  const uint channels = round_up(kHeadSize, 4u);
  WkvScratch parts;
  parts.w = scratch;
  parts.a = parts.w + round_up(kRankW, 4u);
  parts.v = parts.a + round_up(kRankA, 4u);
  parts.g = parts.v + round_up(kRankV, 4u);
  parts.decay = parts.g + round_up(kRankG, 4u);
  parts.rate = parts.decay + channels;
  parts.value = parts.rate + channels;
  parts.gate = parts.value + channels;
  parts.y = parts.gate + channels;
  return parts;
}

static inline void load_low_rank(device const float* from, threadgroup float* to, uint rank,
                                 GroupThread self) {
  for (uint i = self.index; i < rank; i += self.count) to[i] = from[i];
}

// Stage B, one head a group: the low-rank matrices' rows of its channels, the recurrence, GroupNorm,
// bonus and gate. With b = kk a, a row of the state and its output are
//   S_i' = S_i w - (S_i kk) b + v_i k
//   y_i  = S_i' r = S_i (w r) - (S_i kk) (b r) + v_i (k r)
// so that one pass over the old S serves both.
kernel void wkv(device const float* projected [[buffer(0)]],
                device const float* low_rank [[buffer(1)]],
                device const uchar* w2 [[buffer(2)]],
                device const uchar* a2 [[buffer(3)]],
                device const uchar* v2 [[buffer(4)]],
                device const uchar* g2 [[buffer(5)]],
                device const float* vectors [[buffer(6)]],
                device const float* normalized [[buffer(7)]],
                device float* v_first [[buffer(8)]],
                device float* state [[buffer(9)]],
                device float* shift [[buffer(10)]],
                device float* gated [[buffer(11)]],
                constant WkvParameters& parameters [[buffer(12)]],
                threadgroup float* scratch [[threadgroup(0)]],
                uint position [[threadgroup_position_in_grid]],
                uint lane [[thread_index_in_simdgroup]],
                uint simdgroup [[simdgroup_index_in_threadgroup]],
                uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const WkvScratch parts = wkv_scratch(scratch);
  const uint first = position * kHeadSize;  // channel
  const uint end = first + kHeadSize;
  const bool has_value_mix = parameters.has_value_mix != 0u;
  device const float* receptance = projected;
  device const float* key = projected + kWidth;
  device const float* value = projected + 2u * kWidth;
  device const float* w0 = vectors;
  device const float* a0 = vectors + kWidth;
  device const float* v0 = vectors + 2u * kWidth;
  device const float* k_k = vectors + 3u * kWidth;
  device const float* k_a = vectors + 4u * kWidth;
  device const float* r_k = vectors + 5u * kWidth;
  device const float* ln_x_weight = vectors + 6u * kWidth;
  device const float* ln_x_bias = vectors + 7u * kWidth;

  load_low_rank(low_rank, parts.w, kRankW, self);
  load_low_rank(low_rank + kRankW, parts.a, kRankA, self);
  if (has_value_mix) load_low_rank(low_rank + kRankW + kRankA, parts.v, kRankV, self);
  load_low_rank(low_rank + kRankW + kRankA + kRankV, parts.g, kRankG, self);
  for (uint i = self.index; i < kHeadSize; i += self.count) {
    shift[first + i] = normalized[first + i];
    if (!has_value_mix) {
      v_first[first + i] = value[first + i];
      parts.value[i] = value[first + i];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Rows of w2, a2, g2 and v2 for the head's channels, four at once, dealt out to the SIMD groups.
  const uint quads = (kHeadSize + 3u) / 4u;
  const uint matrices = has_value_mix ? 4u : 3u;
  for (uint job = simdgroup; job < matrices * quads; job += simdgroups) {
    const uint kind = job / quads;
    const uint row = job % quads * 4u;
    MatrixView matrix;
    threadgroup const float* x;
    if (kind == 0u) {
      matrix = matrix_view(w2, parameters.type_w2, end, kRankW);
      x = parts.w;
    } else if (kind == 1u) {
      matrix = matrix_view(a2, parameters.type_a2, end, kRankA);
      x = parts.a;
    } else if (kind == 2u) {
      matrix = matrix_view(g2, parameters.type_g2, end, kRankG);
      x = parts.g;
    } else {
      matrix = matrix_view(v2, parameters.type_v2, end, kRankV);
      x = parts.v;
    }
    const float4 sums = dot_rows(matrix, first + row, x, lane);
    const uint i = row + lane;
    if (lane < 4u && i < kHeadSize) {
      const uint channel = first + i;
      const float sum = sums[lane];
      if (kind == 0u) {
        parts.decay[i] = decay(w0[channel] + sum);
      } else if (kind == 1u) {
        parts.rate[i] = sigmoid(a0[channel] + sum);
      } else if (kind == 2u) {
        parts.gate[i] = sum;
      } else {
        const float v = value[channel];
        parts.value[i] = v + (v_first[channel] - v) * sigmoid(v0[channel] + sum);
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Every SIMD group computes the vectors of the recurrence for all columns, in registers; past the
  // head they are zero. kk is of k before its adjustment, the bonus of k after it.
  const uint lane_columns = (kHeadSize + 31u) / 32u;
  float w[GANDER_LANE_COLUMNS], wr[GANDER_LANE_COLUMNS], k[GANDER_LANE_COLUMNS];
  float kk[GANDER_LANE_COLUMNS], b[GANDER_LANE_COLUMNS];
  float square = 0.0f;
  float4 products = float4(0.0f);  // b r, k r, the bonus r k r_k
  for (uint c = 0u; c < lane_columns; ++c) {
    const uint j = lane + 32u * c;
    const bool inside = j < kHeadSize;
    const uint channel = first + (inside ? j : 0u);
    const float r = inside ? receptance[channel] : 0.0f;
    const float raw_k = inside ? key[channel] : 0.0f;
    const float a = inside ? parts.rate[j] : 0.0f;
    w[c] = inside ? parts.decay[j] : 0.0f;
    wr[c] = w[c] * r;
    kk[c] = raw_k * k_k[channel];
    k[c] = raw_k * (1.0f + (a - 1.0f) * k_a[channel]);
    b[c] = kk[c] * a;
    square += kk[c] * kk[c];
    products += float4(b[c] * r, k[c] * r, r * k[c] * r_k[channel], 0.0f);
  }
  const float inverse_norm = 1.0f / max(precise::sqrt(simd_sum(square)), 1e-12f);
  products = simd_sum(products);
  const float b_r = products.x * inverse_norm;
  const float k_r = products.y;
  const float bonus = products.z;
  for (uint c = 0u; c < lane_columns; ++c) {
    kk[c] *= inverse_norm;
    b[c] *= inverse_norm;
  }

  // Four rows of S at once.
  device float* head_state = state + ulong(position) * kHeadSize * kHeadSize;
  for (uint row = 4u * simdgroup; row < kHeadSize; row += 4u * simdgroups) {
    float s[4][GANDER_LANE_COLUMNS];
    float4 kept = float4(0.0f);     // S_i (w r)
    float4 removed = float4(0.0f);  // S_i kk
    for (uint i = 0u; i < 4u; ++i) {
      device const float* from = head_state + min(row + i, kHeadSize - 1u) * kHeadSize;
      for (uint c = 0u; c < lane_columns; ++c) {
        const uint j = lane + 32u * c;
        s[i][c] = j < kHeadSize ? from[j] : 0.0f;
        kept[i] += s[i][c] * wr[c];
        removed[i] += s[i][c] * kk[c];
      }
    }
    kept = simd_sum(kept);
    removed = simd_sum(removed);
    for (uint i = 0u; i < 4u; ++i) {
      if (row + i >= kHeadSize) break;
      device float* to = head_state + (row + i) * kHeadSize;
      const float v = parts.value[row + i];
      for (uint c = 0u; c < lane_columns; ++c) {
        const uint j = lane + 32u * c;
        if (j < kHeadSize) to[j] = s[i][c] * w[c] - removed[i] * b[c] + v * k[c];
      }
      if (lane == 0u) parts.y[row + i] = kept[i] - removed[i] * b_r + v * k_r;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // GroupNorm over the head, by every SIMD group; its epsilon is N times that of the LayerNorms.
  float sum = 0.0f;
  for (uint j = lane; j < kHeadSize; j += 32u) sum += parts.y[j];
  const float mean = simd_sum(sum) / float(kHeadSize);
  float squares = 0.0f;
  for (uint j = lane; j < kHeadSize; j += 32u) {
    const float deviation = parts.y[j] - mean;
    squares += deviation * deviation;
  }
  const float variance = simd_sum(squares) / float(kHeadSize);
  const float scale = precise::rsqrt(variance + float(kHeadSize) * kNormEpsilon);
  for (uint i = self.index; i < kHeadSize; i += self.count) {
    const uint channel = first + i;
    const float y = (parts.y[i] - mean) * scale * ln_x_weight[channel] + ln_x_bias[channel];
    gated[channel] = (y + bonus * parts.value[i]) * parts.gate[i];
  }
}
