#include <metal_stdlib>
using namespace metal;

#include "../activations.h"
#include "../model.h"
#include "parameters.h"

// Stage B of a batch: the recurrence over each sequence's rows, and what is made of its outputs.
// The formulas are those of kernels/wkv.metal.

// Columns of a head that a lane of batch_gate has: lane, lane + 32, ...
#define GANDER_LANE_COLUMNS (GANDER_MAX_HEAD_SIZE / 32)

static inline float sum_of_quad(float4 x) {
  return (x.x + x.y) + (x.z + x.w);
}

// Over the lanes of a row, in all of them.
template <uint Lanes>
static inline float sum_of_row(float4 quad) {
  float sum = sum_of_quad(quad);
  if (Lanes > 1u) sum += simd_shuffle_xor(sum, 1);
  if (Lanes > 2u) sum += simd_shuffle_xor(sum, 2);
  if (Lanes > 4u) sum += simd_shuffle_xor(sum, 4);
  return sum;
}

// Four floats of a row of S, from `column` on; zeros past its end.
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

// What the recurrence takes of a channel comes from these: r, k, v and the sums of the low-rank
// products of w, a, v, and layer 0's v.
struct ChannelInputs {
  float r, k, v, w, a, mix, first;
};
// A channel's vectors.
struct ChannelVectors {
  float w0, a0, v0, k_k, k_a, r_k;
};

static inline ChannelVectors load_vectors(device const float* vectors, uint channel) {
  ChannelVectors result;
  result.w0 = vectors[channel];
  result.a0 = vectors[kWidth + channel];
  result.v0 = vectors[2u * kWidth + channel];
  result.k_k = vectors[3u * kWidth + channel];
  result.k_a = vectors[4u * kWidth + channel];
  result.r_k = vectors[5u * kWidth + channel];
  return result;
}

// A row of S, of which a lane keeps eight quads in registers: its first, and every `Lanes`-th.
template <uint Lanes>
struct StateRow {
  float4 s[8];

  void load(device const float* row, uint lane) {
#pragma unroll
    for (uint q = 0u; q < 8u; ++q) s[q] = load_quad(row, 4u * (lane + Lanes * q));
  }
  void store(device float* row, uint lane) const {
#pragma unroll
    for (uint q = 0u; q < 8u; ++q) store_quad(row, 4u * (lane + Lanes * q), s[q]);
  }

  // S_i = S_i diag(w) - (S_i kk) b + v_i k; returns y_i = S_i r. `operands` are a token's, from the
  // lane's first quad on.
  float advance(threadgroup const float4* operands, float v) {
    const uint vector = 8u * Lanes;  // quads from one to the next: w, kk, b, k, v, r
    float4 dots = s[0] * operands[vector];
#pragma unroll
    for (uint q = 1u; q < 8u; ++q) dots += s[q] * operands[vector + Lanes * q];
    const float removed = sum_of_row<Lanes>(dots);
    float4 outputs = float4(0.0f);
#pragma unroll
    for (uint q = 0u; q < 8u; ++q) {
      threadgroup const float4* at = operands + Lanes * q;
      s[q] = s[q] * at[0] - removed * at[2u * vector] + v * at[3u * vector];
      outputs += s[q] * at[5u * vector];
    }
    return sum_of_row<Lanes>(outputs);
  }
};

// A sequence's rows one after the other, for `128 / Lanes` rows of a head's S:
//   S = S diag(w) - (S kk) (kk a)ᵀ + v kᵀ,  y = S r
// 128 threads keep S, `Lanes` for a row. 128 compute the operands of the next `Staged` tokens into
// thread-group memory, a token a SIMD group and 32 columns at a time, from inputs that were asked for
// a turn before: others, who do so meanwhile, when `Overlaps`, else the same, so that more groups fit
// where each has few tokens. The group of the head's first rows also leaves what batch_gate needs: v
// after the mix and the bonus r · (k ∘ r_k).
template <uint Lanes, uint Staged, bool Overlaps>
kernel void scan(device const BatchSequence* sequences [[buffer(0)]],
                 device const uint* counts [[buffer(1)]],
                 device const float* projected [[buffer(2)]],
                 device const float* products [[buffer(3)]],
                 device const float* vectors [[buffer(4)]],
                 device float* state [[buffer(5)]],
                 device float* v_first [[buffer(6)]],
                 device float* values [[buffer(7)]],
                 device float* bonuses [[buffer(8)]],
                 device float* y [[buffer(9)]],
                 constant BatchScanParameters& parameters [[buffer(10)]],
                 threadgroup float* scratch [[threadgroup(0)]],
                 uint2 position [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]]) {
  if (position.y >= counts[GANDER_COUNT_SEQUENCES]) return;
  enum { kColumns = 32 * Lanes };  // at least a head's
  enum { kTokenFloats = GANDER_BATCH_OPERANDS * kColumns, kTurns = (Staged + 3) / 4 };
  const uint head = position.x / parameters.parts;
  const bool leads = position.x % parameters.parts == 0u;
  const bool has_value_mix = parameters.has_value_mix != 0u;
  const uint first = sequences[position.y].first;
  const uint count = sequences[position.y].rows;
  const uint stages = (count + Staged - 1u) / Staged;
  const uint stride = parameters.matrix_stride;
  const bool keeps_state = !Overlaps || index < 128u;
  const bool prepares = !Overlaps || index >= 128u;

  // Of a thread that keeps S.
  const uint part = index % Lanes;
  const uint row = index % 128u / Lanes + 128u / Lanes * (position.x % parameters.parts);
  device float* state_row = state + ulong(sequences[position.y].slot) * parameters.slot_floats +
                            (ulong(head) * kHeadSize + min(row, kHeadSize - 1u)) * kHeadSize;
  StateRow<Lanes> own;
  if (keeps_state) own.load(state_row, part);

  // Of one that prepares.
  const uint simdgroup = index % 128u / 32u;
  const uint lane = index % 32u;
  ChannelVectors constants[Lanes];
  ChannelInputs ahead[kTurns][Lanes];
  if (prepares) {
#pragma unroll
    for (uint c = 0u; c < Lanes; ++c) {
      const uint j = min(lane + 32u * c, kHeadSize - 1u);
      constants[c] = load_vectors(vectors, kHeadSize * head + j);
    }
  }

  for (uint stage = 0u; stage < stages + 2u; ++stage) {
    if (keeps_state) {
      if (stage >= 2u) {
        const uint begin = (stage - 2u) * Staged;
        const uint tokens = min(Staged, count - begin);
        threadgroup const float* operands =
            scratch + uint(kTokenFloats) * Staged * (stage % 2u);
        threadgroup const float* v = operands + uint(4 * kColumns) + min(row, uint(kColumns) - 1u);
        device float* to = y + ulong(first + begin) * kWidth + kHeadSize * head + row;
        for (uint token = 0u; token < tokens; ++token) {
          const float output =
              own.advance((threadgroup const float4*)operands + part, *v);
          if (part == 0u && row < kHeadSize) *to = output;
          operands += uint(kTokenFloats);
          v += uint(kTokenFloats);
          to += kWidth;
        }
      }
    }
    if (prepares) {
      if (stage >= 1u && stage <= stages) {
#pragma unroll
        for (uint turn = 0u; turn < uint(kTurns); ++turn) {
          const uint place = simdgroup + 4u * turn;
          const uint token = (stage - 1u) * Staged + place;
          if (place >= Staged || token >= count) continue;
          threadgroup float* to =
              scratch + uint(kTokenFloats) * (Staged * ((stage - 1u) % 2u) + place) + lane;
          const ulong number = first + token;
          float kk[Lanes], rate[Lanes];
          float2 sums = float2(0.0f);  // of squares, of the bonus
#pragma unroll
          for (uint c = 0u; c < Lanes; ++c) {
            const ChannelInputs in = ahead[turn][c];
            const bool inside = lane + 32u * c < kHeadSize;
            const float a = sigmoid(constants[c].a0 + in.a);
            const float k = in.k * (1.0f + (a - 1.0f) * constants[c].k_a);
            float mixed = in.v;
            if (has_value_mix) mixed += (in.first - in.v) * sigmoid(constants[c].v0 + in.mix);
            kk[c] = inside ? in.k * constants[c].k_k : 0.0f;
            rate[c] = a;
            sums += float2(kk[c] * kk[c], inside ? in.r * k * constants[c].r_k : 0.0f);
            to[32u * c] = inside ? decay(constants[c].w0 + in.w) : 0.0f;
            to[uint(3 * kColumns) + 32u * c] = inside ? k : 0.0f;
            to[uint(4 * kColumns) + 32u * c] = inside ? mixed : 0.0f;
            to[uint(5 * kColumns) + 32u * c] = inside ? in.r : 0.0f;
            if (leads && inside) {
              const ulong at = number * kWidth + kHeadSize * head + lane + 32u * c;
              if (!has_value_mix) v_first[at] = mixed;
              if (has_value_mix) values[at] = mixed;
            }
          }
          sums = simd_sum(sums);
          const float inverse_norm = 1.0f / max(precise::sqrt(sums.x), 1e-12f);
#pragma unroll
          for (uint c = 0u; c < Lanes; ++c) {
            to[uint(kColumns) + 32u * c] = kk[c] * inverse_norm;
            to[uint(2 * kColumns) + 32u * c] = kk[c] * inverse_norm * rate[c];
          }
          if (leads && lane == 0u) bonuses[number * kHeads + head] = sums.y;
        }
      }
#pragma unroll
      for (uint turn = 0u; turn < uint(kTurns); ++turn) {
        const uint place = simdgroup + 4u * turn;
        const uint token = stage * Staged + place;
        if (place >= Staged || token >= count) continue;
#pragma unroll
        for (uint c = 0u; c < Lanes; ++c) {
          const uint j = min(lane + 32u * c, kHeadSize - 1u);
          const ulong at = ulong(first + token) * kWidth + kHeadSize * head + j;
          ChannelInputs in;
          in.r = projected[at];
          in.k = projected[stride + at];
          in.v = projected[2u * ulong(stride) + at];
          in.w = products[at];
          in.a = products[stride + at];
          in.mix = has_value_mix ? products[2u * ulong(stride) + at] : 0.0f;
          in.first = has_value_mix ? v_first[at] : 0.0f;
          ahead[turn][c] = in;
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (keeps_state && row < kHeadSize) own.store(state_row, part);
}

// Heads of up to 64 channels, all of a head a group; of up to 256.
template [[host_name("batch_scan_64")]] kernel decltype(scan<2u, 8u, true>) scan<2u, 8u, true>;
template [[host_name("batch_scan_64_few")]] kernel decltype(scan<2u, 4u, false>)
    scan<2u, 4u, false>;
template [[host_name("batch_scan_256")]] kernel decltype(scan<8u, 2u, true>) scan<8u, 2u, true>;

// A SIMD group a head: gated = (GroupNorm(y) + bonus v) ∘ g, as halves.
kernel void batch_gate(device const uint* counts [[buffer(0)]],
                       device const float* y [[buffer(1)]],
                       device const float* values [[buffer(2)]],
                       device const float* bonuses [[buffer(3)]],
                       device const float* gates [[buffer(4)]],
                       device const float* vectors [[buffer(5)]],
                       device half* gated [[buffer(6)]],
                       constant BatchGateParameters& parameters [[buffer(7)]],
                       uint2 position [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint row = position.y;
  const uint head = position.x * simdgroups + simdgroup;
  if (row >= counts[GANDER_COUNT_ROWS] || head >= kHeads) return;
  const ulong at = ulong(row) * kWidth + kHeadSize * head;
  float outputs[GANDER_LANE_COLUMNS];
  float sum = 0.0f;
#pragma unroll
  for (uint c = 0u; c < GANDER_LANE_COLUMNS; ++c) {
    const uint j = lane + 32u * c;
    outputs[c] = 0.0f;
    if (j < kHeadSize) outputs[c] = y[at + j];
    sum += outputs[c];
  }
  const float mean = simd_sum(sum) / float(kHeadSize);
  float squares = 0.0f;
#pragma unroll
  for (uint c = 0u; c < GANDER_LANE_COLUMNS; ++c) {
    const float deviation = outputs[c] - mean;
    if (lane + 32u * c < kHeadSize) squares += deviation * deviation;
  }
  const float variance = simd_sum(squares) / float(kHeadSize);
  const float scale = precise::rsqrt(variance + float(kHeadSize) * kNormEpsilon);
  const float bonus = bonuses[ulong(row) * kHeads + head];
#pragma unroll
  for (uint c = 0u; c < GANDER_LANE_COLUMNS; ++c) {
    const uint j = lane + 32u * c;
    if (j >= kHeadSize) continue;
    const uint channel = kHeadSize * head + j;
    const float normal = (outputs[c] - mean) * scale * vectors[6u * kWidth + channel] +
                         vectors[7u * kWidth + channel];
    const float result = (normal + bonus * values[at + j]) * gates[at + j];
    gated[ulong(row) * parameters.row_stride + channel] =
        half(min(max(result, -65504.0f), 65504.0f));
  }
}
