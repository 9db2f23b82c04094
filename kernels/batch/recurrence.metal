#include <metal_stdlib>
using namespace metal;

#include "../activations.h"
#include "../model.h"
#include "parameters.h"

// Stage B of a batch, in three steps: what the recurrence takes of every row and head, the
// recurrence itself, and what is made of its outputs. The formulas are those of kernels/wkv.metal.

// Columns of a head that a lane has: lane, lane + 32, ...
#define GANDER_LANE_COLUMNS (GANDER_MAX_HEAD_SIZE / 32)

// Where operand `operand` of a row and head lies: w, kk, b, k, v, r.
static inline ulong operand_place(uint row, uint head, uint operand) {
  return ((ulong(row) * kHeads + head) * GANDER_BATCH_OPERANDS + operand) * kHeadSize;
}

// A SIMD group a head: from r, k, v and the low-rank products to the operands. `products` are
// those of w, a, v, g.
kernel void batch_heads(device const uint* counts [[buffer(0)]],
                        device const float* projected [[buffer(1)]],
                        device const float* products [[buffer(2)]],
                        device const float* vectors [[buffer(3)]],
                        device float* v_first [[buffer(4)]],
                        device float* operands [[buffer(5)]],
                        constant BatchHeadsParameters& parameters [[buffer(6)]],
                        uint2 position [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint row = position.y;
  const uint head = position.x * simdgroups + simdgroup;
  if (row >= counts[GANDER_COUNT_ROWS] || head >= kHeads) return;
  const ulong row_begin = ulong(row) * kWidth;
  const ulong stride = parameters.matrix_stride;
  const uint lane_columns = (kHeadSize + 31u) / 32u;
  float kk[GANDER_LANE_COLUMNS], rate[GANDER_LANE_COLUMNS];
  float square = 0.0f;
  for (uint c = 0u; c < lane_columns; ++c) {
    const uint j = lane + 32u * c;
    kk[c] = 0.0f;
    rate[c] = 0.0f;
    if (j >= kHeadSize) continue;
    const uint channel = kHeadSize * head + j;
    const ulong at = row_begin + channel;
    const float r = projected[at];
    const float raw_k = projected[stride + at];
    float v = projected[2u * stride + at];
    if (parameters.has_value_mix != 0u) {
      const float mix = sigmoid(vectors[2u * kWidth + channel] + products[2u * stride + at]);
      v += (v_first[at] - v) * mix;
    } else {
      v_first[at] = v;
    }
    const float a = sigmoid(vectors[kWidth + channel] + products[stride + at]);
    kk[c] = raw_k * vectors[3u * kWidth + channel];
    rate[c] = a;
    square += kk[c] * kk[c];
    operands[operand_place(row, head, 0u) + j] = decay(vectors[channel] + products[at]);
    operands[operand_place(row, head, 3u) + j] =
        raw_k * (1.0f + (a - 1.0f) * vectors[4u * kWidth + channel]);
    operands[operand_place(row, head, 4u) + j] = v;
    operands[operand_place(row, head, 5u) + j] = r;
  }
  const float inverse_norm = 1.0f / max(precise::sqrt(simd_sum(square)), 1e-12f);
  for (uint c = 0u; c < lane_columns; ++c) {
    const uint j = lane + 32u * c;
    if (j >= kHeadSize) continue;
    operands[operand_place(row, head, 1u) + j] = kk[c] * inverse_norm;
    operands[operand_place(row, head, 2u) + j] = kk[c] * inverse_norm * rate[c];
  }
}

static inline float sum_of_quad(float4 x) {
  return (x.x + x.y) + (x.z + x.w);
}

// Over the eight lanes of a row, in all of them.
static inline float sum_of_row(float sum) {
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  return sum + simd_shuffle_xor(sum, 4);
}

// Four floats of a row of `kHeadSize`, from `column` on; zeros past its end.
static inline float4 load_quad(device const float* row, uint column) {
  float4 quad = float4(0.0f);
  if (kHeadSize % 4u == 0u) {
    if (column < kHeadSize) quad = *(device const float4*)(row + column);
    return quad;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (column + i < kHeadSize) quad[i] = row[column + i];
  }
  return quad;
}
static inline void store_quad(device float* row, uint column, float4 quad) {
  if (kHeadSize % 4u == 0u) {
    if (column < kHeadSize) *(device float4*)(row + column) = quad;
    return;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (column + i < kHeadSize) row[column + i] = quad[i];
  }
}

// A sequence's rows one after the other, for 16 `Rows` rows of a head's S:
//   S = S diag(w) - (S kk) bᵀ + v kᵀ,  y = S r
// Eight lanes have a row, `Quads` times four columns each, and keep it in registers; a lane has
// `Rows` rows. The operands of some rows of the step are staged in thread-group memory, the next
// ones on their way meanwhile. 128 threads.
template <uint Quads, uint Rows, uint Staged>
kernel void scan(device const BatchSequence* sequences [[buffer(0)]],
                 device const uint* counts [[buffer(1)]],
                 device const float* operands [[buffer(2)]],
                 device float* state [[buffer(3)]],
                 device float* y [[buffer(4)]],
                 constant BatchScanParameters& parameters [[buffer(5)]],
                 threadgroup float* scratch [[threadgroup(0)]],
                 uint2 position [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]]) {
  if (position.y >= counts[GANDER_COUNT_SEQUENCES]) return;
  const uint head = position.x / parameters.parts;
  const uint part = index % 8u;
  const uint first_row = 16u * Rows * (position.x % parameters.parts) + Rows * (index / 8u);
  const uint first = sequences[position.y].first;
  const uint count = sequences[position.y].rows;
  device float* head_state = state + ulong(sequences[position.y].slot) * parameters.slot_floats +
                             ulong(head) * kHeadSize * kHeadSize;

  float4 s[Rows][Quads];
#pragma unroll
  for (uint r = 0u; r < Rows; ++r) {
#pragma unroll
    for (uint q = 0u; q < Quads; ++q) {
      s[r][q] = float4(0.0f);
      if (first_row + r < kHeadSize) {
        s[r][q] = load_quad(head_state + (first_row + r) * kHeadSize, 4u * (Quads * part + q));
      }
    }
  }

  enum { kAhead = Staged * GANDER_BATCH_OPERANDS * 8u * Quads / 128u };
  const uint vector_quads = 8u * Quads;
  const uint token_quads = GANDER_BATCH_OPERANDS * vector_quads;
  threadgroup float4* staged = (threadgroup float4*)scratch;
  float4 ahead[kAhead];
  for (uint begin = 0u; begin < count + Staged; begin += Staged) {
    // What was asked for in the turn before is staged, the next is asked for.
    if (begin > 0u) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
      for (uint i = 0u; i < uint(kAhead); ++i) staged[index + 128u * i] = ahead[i];
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
#pragma unroll
    for (uint i = 0u; i < uint(kAhead); ++i) {
      const uint quad = index + 128u * i;
      const uint token = begin + quad / token_quads;
      ahead[i] = float4(0.0f);
      if (token < count) {
        ahead[i] = load_quad(operands + operand_place(first + token, head,
                                                      quad % token_quads / vector_quads),
                             4u * (quad % vector_quads));
      }
    }
    if (begin == 0u) continue;

    const uint end = min(begin, count);
    for (uint token = begin - Staged; token < end; ++token) {
      threadgroup const float4* vectors = staged + (token + Staged - begin) * token_quads;
      threadgroup const float4* w = vectors + Quads * part;
      threadgroup const float4* kk = w + vector_quads;
      threadgroup const float4* b = kk + vector_quads;
      threadgroup const float4* k = b + vector_quads;
      threadgroup const float* v = (threadgroup const float*)(vectors + 4u * vector_quads);
      threadgroup const float4* r_quads = k + 2u * vector_quads;
      float removed[Rows];
#pragma unroll
      for (uint r = 0u; r < Rows; ++r) {
        float4 products = s[r][0] * kk[0];
#pragma unroll
        for (uint q = 1u; q < Quads; ++q) products += s[r][q] * kk[q];
        removed[r] = sum_of_row(sum_of_quad(products));
      }
      float4 outputs[Rows];
#pragma unroll
      for (uint r = 0u; r < Rows; ++r) outputs[r] = float4(0.0f);
#pragma unroll
      for (uint q = 0u; q < Quads; ++q) {
        const float4 decayed = w[q];
        const float4 b_quad = b[q];
        const float4 k_quad = k[q];
        const float4 r_quad = r_quads[q];
#pragma unroll
        for (uint r = 0u; r < Rows; ++r) {
          const float value = v[first_row + r];
          s[r][q] = s[r][q] * decayed - removed[r] * b_quad + value * k_quad;
          outputs[r] += s[r][q] * r_quad;
        }
      }
      device float* to = y + ulong(first + token) * kWidth + kHeadSize * head;
#pragma unroll
      for (uint r = 0u; r < Rows; ++r) {
        const float output = sum_of_row(sum_of_quad(outputs[r]));
        if (part == r && first_row + r < kHeadSize) to[first_row + r] = output;
      }
    }
  }

#pragma unroll
  for (uint r = 0u; r < Rows; ++r) {
    if (first_row + r >= kHeadSize) continue;
#pragma unroll
    for (uint q = 0u; q < Quads; ++q) {
      store_quad(head_state + (first_row + r) * kHeadSize, 4u * (Quads * part + q), s[r][q]);
    }
  }
}

// Heads of up to 64 channels, a quarter or half of a head and all of it a group; of up to 256.
template [[host_name("batch_scan_64_16")]] kernel decltype(scan<2u, 1u, 8u>) scan<2u, 1u, 8u>;
template [[host_name("batch_scan_64_32")]] kernel decltype(scan<2u, 2u, 8u>) scan<2u, 2u, 8u>;
template [[host_name("batch_scan_64_64")]] kernel decltype(scan<2u, 4u, 8u>) scan<2u, 4u, 8u>;
template [[host_name("batch_scan_256_32")]] kernel decltype(scan<8u, 2u, 2u>) scan<8u, 2u, 2u>;

// A SIMD group a head: gated = (GroupNorm(y) + (r · (k ∘ r_k)) v) ∘ g, as halves.
kernel void batch_gate(device const uint* counts [[buffer(0)]],
                       device const float* y [[buffer(1)]],
                       device const float* operands [[buffer(2)]],
                       device const float* gates [[buffer(3)]],
                       device const float* vectors [[buffer(4)]],
                       device half* gated [[buffer(5)]],
                       constant BatchGateParameters& parameters [[buffer(6)]],
                       uint2 position [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint row = position.y;
  const uint head = position.x * simdgroups + simdgroup;
  if (row >= counts[GANDER_COUNT_ROWS] || head >= kHeads) return;
  const ulong row_begin = ulong(row) * kWidth;
  const uint lane_columns = (kHeadSize + 31u) / 32u;
  float values[GANDER_LANE_COLUMNS];
  float sum = 0.0f;
  float bonus = 0.0f;
  for (uint c = 0u; c < lane_columns; ++c) {
    const uint j = lane + 32u * c;
    values[c] = 0.0f;
    if (j >= kHeadSize) continue;
    const uint channel = kHeadSize * head + j;
    values[c] = y[row_begin + channel];
    sum += values[c];
    bonus += operands[operand_place(row, head, 5u) + j] *
             operands[operand_place(row, head, 3u) + j] * vectors[5u * kWidth + channel];
  }
  const float mean = simd_sum(sum) / float(kHeadSize);
  bonus = simd_sum(bonus);
  float squares = 0.0f;
  for (uint c = 0u; c < lane_columns; ++c) {
    const float deviation = values[c] - mean;
    if (lane + 32u * c < kHeadSize) squares += deviation * deviation;
  }
  const float variance = simd_sum(squares) / float(kHeadSize);
  const float scale = precise::rsqrt(variance + float(kHeadSize) * kNormEpsilon);
  for (uint c = 0u; c < lane_columns; ++c) {
    const uint j = lane + 32u * c;
    if (j >= kHeadSize) continue;
    const uint channel = kHeadSize * head + j;
    const float normal = (values[c] - mean) * scale * vectors[6u * kWidth + channel] +
                         vectors[7u * kWidth + channel];
    const float value = operands[operand_place(row, head, 4u) + j];
    const float result = (normal + bonus * value) * gates[row_begin + channel];
    gated[ulong(row) * parameters.row_stride + channel] =
        half(min(max(result, -65504.0f), 65504.0f));
  }
}
