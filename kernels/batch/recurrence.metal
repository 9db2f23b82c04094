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

// Over the eight lanes of a row, in all of them.
static inline float sum_of_row(float4 quad) {
  float sum = sum_of_quad(quad);
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  return sum + simd_shuffle_xor(sum, 4);
}

// How S lies in the state: as floats, or as halves. Then it is rounded after every token, not only
// where it is stored, so that no cut of a text changes it.
struct FloatState {
  typedef float Element;
  typedef float4 Quad;
  static float4 rounded(float4 quad) { return quad; }
};
struct HalfState {
  typedef half Element;
  typedef half4 Quad;
  static float4 rounded(float4 quad) {
    return float4(half4(min(max(quad, float4(-65504.0f)), float4(65504.0f))));
  }
};

// Four elements of a row of S, from `column` on; zeros past its end.
template <typename Kept>
static inline typename Kept::Quad load_quad(device const typename Kept::Element* row,
                                            uint column) {
  typename Kept::Quad quad = typename Kept::Quad(0.0f);
  if (kHeadSize % 4u == 0u) {
    if (column < kHeadSize) quad = *(device const typename Kept::Quad*)(row + column);
    return quad;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (column + i < kHeadSize) quad[i] = row[column + i];
  }
  return quad;
}
template <typename Kept>
static inline void store_quad(device typename Kept::Element* row, uint column, float4 quad) {
  if (kHeadSize % 4u == 0u) {
    device typename Kept::Quad* to = (device typename Kept::Quad*)(row + column);
    if (column < kHeadSize) *to = typename Kept::Quad(quad);
    return;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (column + i < kHeadSize) row[column + i] = typename Kept::Element(quad[i]);
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

// What a head's recurrence reads beside S, and what it leaves beside y.
struct HeadMemory {
  uint head;
  bool has_value_mix;
  ulong stride;  // from r to k to v, and between the products
  device const float* projected;
  device const float* products;
  device float* v_first;
  device float* values;
  device float* bonuses;
};

// Of a lane: of 32 columns of the head each.
template <uint Quads>
struct HeadVectors {
  ChannelVectors columns[Quads];

  void load(device const float* vectors, uint head, uint lane) {
#pragma unroll
    for (uint c = 0u; c < Quads; ++c) {
      const uint j = min(lane + 32u * c, kHeadSize - 1u);
      columns[c] = load_vectors(vectors, kHeadSize * head + j);
    }
  }
};

// The same of a token.
template <uint Quads>
struct TokenInputs {
  ChannelInputs columns[Quads];

  void load(HeadMemory from, uint row, uint lane) {
#pragma unroll
    for (uint c = 0u; c < Quads; ++c) {
      const uint j = min(lane + 32u * c, kHeadSize - 1u);
      const ulong at = ulong(row) * kWidth + kHeadSize * from.head + j;
      ChannelInputs in;
      in.r = from.projected[at];
      in.k = from.projected[from.stride + at];
      in.v = from.projected[2u * from.stride + at];
      in.w = from.products[at];
      in.a = from.products[from.stride + at];
      in.mix = from.has_value_mix ? from.products[2u * from.stride + at] : 0.0f;
      in.first = from.has_value_mix ? from.v_first[at] : 0.0f;
      columns[c] = in;
    }
  }

  // Its operands, by a SIMD group: w, kk, kk a, k, v, r, each of 32 `Quads` floats. With `leads`
  // also leaves what batch_gate needs: v after the mix and the bonus r · (k ∘ r_k).
  void prepare(HeadVectors<Quads> vectors, HeadMemory memory, uint row, bool leads,
               threadgroup float* operands, uint lane) const {
    enum { kColumns = 32 * Quads };
    threadgroup float* to = operands + lane;
    float kk[Quads], rate[Quads];
    float2 sums = float2(0.0f);  // of squares, of the bonus
#pragma unroll
    for (uint c = 0u; c < Quads; ++c) {
      const ChannelInputs in = columns[c];
      const ChannelVectors own = vectors.columns[c];
      const bool inside = lane + 32u * c < kHeadSize;
      const float a = sigmoid(own.a0 + in.a);
      const float k = in.k * (1.0f + (a - 1.0f) * own.k_a);
      float mixed = in.v;
      if (memory.has_value_mix) mixed += (in.first - in.v) * sigmoid(own.v0 + in.mix);
      kk[c] = inside ? in.k * own.k_k : 0.0f;
      rate[c] = a;
      sums += float2(kk[c] * kk[c], inside ? in.r * k * own.r_k : 0.0f);
      to[32u * c] = inside ? decay(own.w0 + in.w) : 0.0f;
      to[uint(3 * kColumns) + 32u * c] = inside ? k : 0.0f;
      to[uint(4 * kColumns) + 32u * c] = inside ? mixed : 0.0f;
      to[uint(5 * kColumns) + 32u * c] = inside ? in.r : 0.0f;
      if (leads && inside) {
        const ulong at = ulong(row) * kWidth + kHeadSize * memory.head + lane + 32u * c;
        if (!memory.has_value_mix) memory.v_first[at] = mixed;
        if (memory.has_value_mix) memory.values[at] = mixed;
      }
    }
    sums = simd_sum(sums);
    const float inverse_norm = 1.0f / max(precise::sqrt(sums.x), 1e-12f);
#pragma unroll
    for (uint c = 0u; c < Quads; ++c) {
      to[uint(kColumns) + 32u * c] = kk[c] * inverse_norm;
      to[uint(2 * kColumns) + 32u * c] = kk[c] * inverse_norm * rate[c];
    }
    if (leads && lane == 0u) memory.bonuses[ulong(row) * kHeads + memory.head] = sums.y;
  }
};

// Rows of S as they lie in memory, on their way.
template <typename Kept, uint Quads, uint Rows>
struct StoredRows {
  typename Kept::Quad quads[Rows][Quads];

  // Rows `row` and following of the head.
  void load(device const typename Kept::Element* head, uint row, uint lane) {
#pragma unroll
    for (uint r = 0u; r < Rows; ++r) {
#pragma unroll
      for (uint q = 0u; q < Quads; ++q) {
        quads[r][q] = load_quad<Kept>(head + min(row + r, kHeadSize - 1u) * kHeadSize,
                                      4u * (lane + 8u * q));
      }
    }
  }
};

// `Rows` rows of S, of which a lane keeps `Quads` quads each in registers: its first, and every
// eighth. What is read of the operands serves all rows.
template <typename Kept, uint Quads, uint Rows>
struct StateRows {
  typedef typename Kept::Element Element;
  float4 s[Rows][Quads];

  void take(StoredRows<Kept, Quads, Rows> stored) {
#pragma unroll
    for (uint r = 0u; r < Rows; ++r) {
#pragma unroll
      for (uint q = 0u; q < Quads; ++q) s[r][q] = float4(stored.quads[r][q]);
    }
  }
  void store(device Element* head, uint row, uint lane) const {
#pragma unroll
    for (uint r = 0u; r < Rows; ++r) {
      if (row + r >= kHeadSize) continue;
#pragma unroll
      for (uint q = 0u; q < Quads; ++q) {
        store_quad<Kept>(head + (row + r) * kHeadSize, 4u * (lane + 8u * q), s[r][q]);
      }
    }
  }

  // S_i = S_i diag(w) - (S_i kk) b + v_i k; y_i = S_i r, of row `row` + lane in that lane.
  // `operands` are a token's.
  void advance(threadgroup const float4* operands, uint row, uint lane, device float* y) {
    const uint vector = 8u * Quads;  // quads from one to the next: w, kk, b, k, v, r
    threadgroup const float4* at = operands + lane;
    threadgroup const float* v = (threadgroup const float*)(operands + 4u * vector);
    float4 w[Quads], kk[Quads], b[Quads], k[Quads], receptance[Quads];
#pragma unroll
    for (uint q = 0u; q < Quads; ++q) {
      kk[q] = at[vector + 8u * q];
      w[q] = at[8u * q];
      b[q] = at[2u * vector + 8u * q];
      k[q] = at[3u * vector + 8u * q];
      receptance[q] = at[5u * vector + 8u * q];
    }
    float removed[Rows], value[Rows];
#pragma unroll
    for (uint r = 0u; r < Rows; ++r) {
      float4 dots = s[r][0] * kk[0];
#pragma unroll
      for (uint q = 1u; q < Quads; ++q) dots += s[r][q] * kk[q];
      removed[r] = sum_of_row(dots);
      value[r] = v[min(row + r, 32u * Quads - 1u)];
    }
    float output = 0.0f;
#pragma unroll
    for (uint r = 0u; r < Rows; ++r) {
      float4 outputs = float4(0.0f);
#pragma unroll
      for (uint q = 0u; q < Quads; ++q) {
        s[r][q] = Kept::rounded(s[r][q] * w[q] - removed[r] * b[q] + value[r] * k[q]);
        outputs += s[r][q] * receptance[q];
      }
      const float sum = sum_of_row(outputs);
      if (lane == r) output = sum;
    }
    if (lane < Rows && row + lane < kHeadSize) y[row + lane] = output;
  }
};

// A sequence's rows one after the other, for 16 `Rows` rows of a head's S:
//   S = S diag(w) - (S kk) (kk a)ᵀ + v kᵀ,  y = S r
// 128 threads keep S, eight lanes for a row. 128 compute the operands of the next `Staged` tokens
// into thread-group memory, a token a SIMD group and 32 columns at a time, from inputs that were
// asked for a turn before: others, who do so meanwhile, when `Overlaps`, else the same, so that
// more groups fit.
template <typename Kept, uint Quads, uint Rows, uint Staged, bool Overlaps>
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
  enum { kTokenFloats = GANDER_BATCH_OPERANDS * 32 * Quads, kTurns = (Staged + 3) / 4 };
  const HeadMemory memory = {position.x / parameters.parts,
                             parameters.has_value_mix != 0u,
                             parameters.matrix_stride,
                             projected,
                             products,
                             v_first,
                             values,
                             bonuses};
  const bool leads = position.x % parameters.parts == 0u;
  const uint first = sequences[position.y].first;
  const uint count = sequences[position.y].rows;
  const uint stages = (count + Staged - 1u) / Staged;
  const bool keeps_state = !Overlaps || index < 128u;
  const bool prepares = !Overlaps || index >= 128u;

  // Of a thread that keeps S.
  const uint part = index % 8u;
  const uint row = Rows * (index % 128u / 8u) + 16u * Rows * (position.x % parameters.parts);
  device typename Kept::Element* head_state =
      (device typename Kept::Element*)(state + ulong(sequences[position.y].slot) *
                                                   parameters.slot_floats) +
      ulong(memory.head) * kHeadSize * kHeadSize;
  StateRows<Kept, Quads, Rows> own;
  if (keeps_state) {
    StoredRows<Kept, Quads, Rows> stored;
    stored.load(head_state, row, part);
    own.take(stored);
  }

  // Of one that prepares.
  const uint simdgroup = index % 128u / 32u;
  const uint lane = index % 32u;
  HeadVectors<Quads> constants;
  TokenInputs<Quads> ahead[kTurns];
  if (prepares) constants.load(vectors, memory.head, lane);

  for (uint stage = 0u; stage < stages + 2u; ++stage) {
    if (keeps_state && stage >= 2u) {
      const uint begin = (stage - 2u) * Staged;
      const uint tokens = min(Staged, count - begin);
      threadgroup const float4* operands =
          (threadgroup const float4*)scratch + uint(kTokenFloats) / 4u * Staged * (stage % 2u);
      device float* to = y + ulong(first + begin) * kWidth + kHeadSize * memory.head;
      for (uint token = 0u; token < tokens; ++token) {
        own.advance(operands, row, part, to);
        operands += uint(kTokenFloats) / 4u;
        to += kWidth;
      }
    }
    if (prepares && stage >= 1u && stage <= stages) {
#pragma unroll
      for (uint turn = 0u; turn < uint(kTurns); ++turn) {
        const uint place = simdgroup + 4u * turn;
        const uint token = (stage - 1u) * Staged + place;
        if (place >= Staged || token >= count) continue;
        threadgroup float* to =
            scratch + uint(kTokenFloats) * (Staged * ((stage - 1u) % 2u) + place);
        ahead[turn].prepare(constants, memory, first + token, leads, to, lane);
      }
    }
    if (prepares) {
#pragma unroll
      for (uint turn = 0u; turn < uint(kTurns); ++turn) {
        const uint place = simdgroup + 4u * turn;
        const uint token = stage * Staged + place;
        if (place < Staged && token < count) ahead[turn].load(memory, first + token, lane);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (keeps_state) own.store(head_state, row, part);
}

// The same for sequences of one token each, up to 32 of them one after the other: each S, and the
// inputs of the next four tokens, are on their way while the ones before are computed. Four SIMD
// groups prepare a token each, then all keep S.
template <typename Kept, uint Quads, uint Rows>
kernel void scan_singles(device const BatchSequence* sequences [[buffer(0)]],
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
  const uint begin = position.y * parameters.sequences;
  const uint all = counts[GANDER_COUNT_SEQUENCES];
  if (begin >= all) return;
  enum { kTokenFloats = GANDER_BATCH_OPERANDS * 32 * Quads };
  typedef typename Kept::Element Element;
  const HeadMemory memory = {position.x, parameters.has_value_mix != 0u,
                             parameters.matrix_stride, projected, products, v_first, values,
                             bonuses};
  const uint count = min(parameters.sequences, all - begin);
  const uint part = index % 8u;
  const uint row = Rows * (index / 8u);
  const uint simdgroup = index / 32u;
  const uint lane = index % 32u;
  // Lane i knows where sequence i is.
  const uint slots = sequences[begin + min(lane, count - 1u)].slot;
  const uint rows = sequences[begin + min(lane, count - 1u)].first;
  device Element* head_states = (device Element*)state + ulong(memory.head) * kHeadSize * kHeadSize;
  const ulong slot_elements = ulong(parameters.slot_floats) * (sizeof(float) / sizeof(Element));

  StoredRows<Kept, Quads, Rows> next;
  next.load(head_states + simd_broadcast(slots, 0) * slot_elements, row, part);
  HeadVectors<Quads> constants;
  constants.load(vectors, memory.head, lane);
  TokenInputs<Quads> ahead;
  ahead.load(memory, simd_shuffle(rows, ushort(simdgroup)), lane);
  for (uint four = 0u; four < count; four += 4u) {
    threadgroup float* operands = scratch + uint(4 * kTokenFloats) * (four / 4u % 2u);
    if (four + simdgroup < count) {
      ahead.prepare(constants, memory, simd_shuffle(rows, ushort(four + simdgroup)), true,
                    operands + uint(kTokenFloats) * simdgroup, lane);
    }
    if (four + 4u < count) {
      ahead.load(memory, simd_shuffle(rows, ushort(four + 4u + simdgroup)), lane);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = four; i < min(four + 4u, count); ++i) {
      StateRows<Kept, Quads, Rows> own;
      own.take(next);
      if (i + 1u < count) {
        const uint slot = simd_shuffle(slots, ushort(i + 1u));
        next.load(head_states + slot * slot_elements, row, part);
      }
      own.advance((threadgroup const float4*)(operands + uint(kTokenFloats) * (i - four)), row,
                  part, y + ulong(simd_shuffle(rows, ushort(i))) * kWidth +
                            kHeadSize * memory.head);
      own.store(head_states + simd_shuffle(slots, ushort(i)) * slot_elements, row, part);
    }
  }
}

// Heads of up to 64 channels, all of a head a group: of few sequences, of many, of those that have
// one token each. Heads of up to 256.
template [[host_name("batch_scan_64")]] kernel decltype(scan<FloatState, 2, 4, 8, true>)
    scan<FloatState, 2, 4, 8, true>;
template [[host_name("batch_scan_64_many")]] kernel decltype(scan<FloatState, 2, 4, 8, false>)
    scan<FloatState, 2, 4, 8, false>;
template [[host_name("batch_scan_64_singles")]] kernel decltype(scan_singles<FloatState, 2, 4>)
    scan_singles<FloatState, 2, 4>;
template [[host_name("batch_scan_256")]] kernel decltype(scan<FloatState, 8, 1, 2, true>)
    scan<FloatState, 8, 1, 2, true>;
template [[host_name("batch_scan_64_half")]] kernel decltype(scan<HalfState, 2, 4, 8, true>)
    scan<HalfState, 2, 4, 8, true>;
template [[host_name("batch_scan_64_many_half")]] kernel decltype(scan<HalfState, 2, 4, 8, false>)
    scan<HalfState, 2, 4, 8, false>;
template [[host_name("batch_scan_64_singles_half")]] kernel decltype(scan_singles<HalfState, 2, 4>)
    scan_singles<HalfState, 2, 4>;
template [[host_name("batch_scan_256_half")]] kernel decltype(scan<HalfState, 8, 1, 2, true>)
    scan<HalfState, 8, 1, 2, true>;

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
