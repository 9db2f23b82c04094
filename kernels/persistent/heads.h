#pragma once

#include "../activations.h"
#include "../formats.h"
#include "exchange.h"

// Stage B for heads of 64 channels, one head a block. Eight lanes have a row: of the low-rank
// matrices, and of S. The formulas are those of kernels/wkv.metal.

#define GANDER_HEAD 64

// What a block shares, in the memory of the vector.
struct HeadMemory {
  threadgroup float* low_rank;                       // the four vectors
  threadgroup float *decay, *wr, *kk, *b, *key, *y;  // [64]
  threadgroup float *square, *b_r, *k_r, *bonus;     // [64]: products to be added up
};

static inline HeadMemory head_memory(threadgroup uchar* memory) {
  HeadMemory head;
  head.decay = (threadgroup float*)memory;
  head.wr = head.decay + GANDER_HEAD;
  head.kk = head.wr + GANDER_HEAD;
  head.b = head.kk + GANDER_HEAD;
  head.key = head.b + GANDER_HEAD;
  head.y = head.key + GANDER_HEAD;
  head.square = head.y + GANDER_HEAD;
  head.b_r = head.square + GANDER_HEAD;
  head.k_r = head.b_r + GANDER_HEAD;
  head.bonus = head.k_r + GANDER_HEAD;
  head.low_rank = head.bonus + GANDER_HEAD;
  return head;
}

// Where a float lies in what eight lanes read at the same time, two quads each: every second 32
// have their even and odd quads changed round, or the eight would meet in half of the memory's
// banks.
static inline uint place_of(uint index) {
  return index ^ (index >> 3u & 4u);
}

// Two quads of floats from `index` on, a multiple of 8.
struct TwoQuads {
  float4 first, second;
};

static inline TwoQuads two_quads(threadgroup const float* values, uint index) {
  TwoQuads quads;
  quads.first = *(threadgroup const float4*)(values + place_of(index));
  quads.second = *(threadgroup const float4*)(values + place_of(index + 4u));
  return quads;
}

static inline float dot(float4 first, float4 second, TwoQuads x) {
  return sum_of_quad(first * x.first + second * x.second);
}

// A low-rank matrix, of which a thread has a part of a row: every eighth group of eight columns.
struct RankMatrix {
  device const uchar* rows;
  uint type, rank;
};

static inline RankMatrix rank_matrix(device const uchar* weights, uint offset, uint type,
                                     uint rank) {
  RankMatrix matrix;
  matrix.rows = weights + 16ul * offset;
  matrix.type = type;
  matrix.rank = rank;
  return matrix;
}

static inline bool is_wide(uint type) {
  return has_type(GANDER_F32) && type == GANDER_F32;
}

static inline device const uint4* rank_row(RankMatrix matrix, uint row) {
  return (device const uint4*)(matrix.rows +
                               ulong(row) * matrix.rank * (is_wide(matrix.type) ? 4u : 2u));
}

// `Count` of the thread's groups, from group `first` on, loaded before it is known what they are
// multiplied with. Floats of 32 bits are not.
template <uint Count>
struct RankGroups {
  uint4 words[Count];
};

template <uint Count>
static inline RankGroups<Count> load_groups(RankMatrix matrix, uint row, uint first) {
  RankGroups<Count> groups;
  device const uint4* words = rank_row(matrix, row);
#pragma unroll
  for (uint i = 0u; i < Count; ++i) {
    const uint group = first + 8u * i;
    groups.words[i] = !is_wide(matrix.type) && 8u * group < matrix.rank ? words[group] : uint4(0u);
  }
  return groups;
}

static inline float multiply_group(uint4 words, uint type, TwoQuads x) {
  float4 first;
  float4 second;
  if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    first = float4(bfloats_of(words.x), bfloats_of(words.y));
    second = float4(bfloats_of(words.z), bfloats_of(words.w));
  } else {
    first = float4(halves_of(words.x), halves_of(words.y));
    second = float4(halves_of(words.z), halves_of(words.w));
  }
  return dot(first, second, x);
}

// Over the row's lanes, in all of them.
static inline float sum_of_row(float sum) {
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  return sum + simd_shuffle_xor(sum, 4);
}

// What loaded groups add to the row's product with the low-rank vector from place x on.
template <uint Count>
static inline float multiply_groups(RankGroups<Count> groups, RankMatrix matrix, uint first,
                                    threadgroup const float* low_rank, uint x) {
  float sum = 0.0f;
#pragma unroll
  for (uint i = 0u; i < Count; ++i) {
    const uint group = first + 8u * i;
    if (8u * group < matrix.rank) {
      sum += multiply_group(groups.words[i], matrix.type, two_quads(low_rank, x + 8u * group));
    }
  }
  return sum;
}

// What the groups add that were not loaded before, from group `first` on.
static inline float multiply_rest(RankMatrix matrix, uint row, uint first,
                                  threadgroup const float* low_rank, uint x) {
  device const uint4* words = rank_row(matrix, row);
  float sum = 0.0f;
  for (uint group = first; 8u * group < matrix.rank; group += 8u) {
    const TwoQuads quads = two_quads(low_rank, x + 8u * group);
    if (is_wide(matrix.type)) {
      device const float4* floats = (device const float4*)words + 2u * group;
      sum += dot(floats[0], floats[1], quads);
    } else {
      sum += multiply_group(words[group], matrix.type, quads);
    }
  }
  return sum;
}

// The row times that vector, in all of the row's lanes.
template <uint Count>
static inline float multiply_row(RankGroups<Count> groups, RankMatrix matrix, uint row, uint part,
                                 threadgroup const float* low_rank, uint x) {
  const uint rest = is_wide(matrix.type) ? part : part + 8u * Count;
  return sum_of_row(multiply_groups(groups, matrix, part, low_rank, x) +
                    multiply_rest(matrix, row, rest, low_rank, x));
}

static inline float sum_of_channels(threadgroup const float* values, uint lane) {
  return simd_sum(values[lane] + values[lane + 32u]);
}

// The head's inputs and outputs, all of the model.
struct HeadBuffers {
  device const float* projected;  // [3][C]
  device const float* low_rank;   // at most 2 for each thread
  device const float* vectors;    // [8][C]
  device float* v_first;          // [C]
  device float* state;            // [H][64][64]
  device float* gated;            // [C]
  uint round;
};

// What a thread reads of a head that stage A does not write. Its memory was asked for earlier
// (expect_layer), so this is on its way together with what stage A wrote.
struct HeadInputs {
  RankGroups<2u> w2, a2, v2;
  RankGroups<1u> g2;
  float4 s0, s1;  // of S
  float w0, a0, v0, k_k, k_a, r_k, ln_x_weight, ln_x_bias;
};

struct HeadMatrices {
  RankMatrix w2, a2, v2, g2;
};

static inline HeadMatrices head_matrices(device const uchar* weights,
                                         threadgroup const LayerPlan* plan, bool has_value_mix) {
  HeadMatrices matrices;
  matrices.w2 = rank_matrix(weights, plan->w2, plan->type_w2, kRankW);
  matrices.a2 = rank_matrix(weights, plan->a2, plan->type_a2, kRankA);
  matrices.v2 = rank_matrix(weights, plan->v2, plan->type_v2, has_value_mix ? kRankV : 0u);
  matrices.g2 = rank_matrix(weights, plan->g2, plan->type_g2, kRankG);
  return matrices;
}

static inline device float4* state_of(HeadBuffers buffers, uint channel, uint part) {
  return (device float4*)(buffers.state + ulong(channel) * GANDER_HEAD + 8u * part);
}

static inline HeadInputs load_head(HeadBuffers buffers, HeadMatrices matrices, uint head,
                                   uint index) {
  const uint part = index % 8u;
  const uint channel = GANDER_HEAD * head + index / 8u;
  HeadInputs inputs;
  inputs.w2 = load_groups<2u>(matrices.w2, channel, part);
  inputs.a2 = load_groups<2u>(matrices.a2, channel, part);
  inputs.v2 = load_groups<2u>(matrices.v2, channel, part);
  inputs.g2 = load_groups<1u>(matrices.g2, channel, part);
  device const float4* state = state_of(buffers, channel, part);
  inputs.s0 = state[0];
  inputs.s1 = state[1];
  device const float* vectors = buffers.vectors + channel;
  inputs.w0 = vectors[0];
  inputs.a0 = vectors[kWidth];
  inputs.v0 = vectors[2u * kWidth];
  inputs.k_k = vectors[3u * kWidth];
  inputs.k_a = vectors[4u * kWidth];
  inputs.r_k = vectors[5u * kWidth];
  inputs.ln_x_weight = vectors[6u * kWidth];
  inputs.ln_x_bias = vectors[7u * kWidth];
  return inputs;
}

// What a thread gets from stage A, as it was handed over.
struct HeadValues {
  uint r, k, v;
  uint low_rank[2];
};

static inline HeadValues receive_head(HeadBuffers buffers, uint channel, uint index) {
  const uint ranks = kRankW + kRankA + kRankV + kRankG;
  const uint round = buffers.round;
  device const uint* projected = (device const uint*)buffers.projected + channel;
  device const uint* low_rank = (device const uint*)buffers.low_rank;
  HeadValues values;
  uint others = 0u;
  do {
    values.r = load_now(projected);
    values.k = load_now(projected + kWidth);
    values.v = load_now(projected + 2u * kWidth);
    others =
        other_round(values.r, round) | other_round(values.k, round) | other_round(values.v, round);
#pragma unroll
    for (uint i = 0u; i < 2u; ++i) {
      const uint at = index + i * GANDER_TOKEN_THREADS;
      values.low_rank[i] = at < ranks ? load_now(low_rank + at) : round;
      others |= other_round(values.low_rank[i], round);
    }
  } while (try_again(others != 0u));
  return values;
}

static inline void run_head(HeadBuffers buffers, HeadMatrices matrices, HeadInputs inputs,
                            HeadValues values, bool has_value_mix, uint head,
                            threadgroup uchar* memory, uint warp, uint lane) {
  const HeadMemory shared = head_memory(memory);
  const uint index = 32u * warp + lane;
  const uint row = index / 8u;  // of the head
  const uint part = index % 8u;
  const uint channel = GANDER_HEAD * head + row;
  const uint ranks = kRankW + kRankA + kRankV + kRankG;
  if (index < ranks) shared.low_rank[place_of(index)] = value_of(values.low_rank[0]);
  if (index + GANDER_TOKEN_THREADS < ranks) {
    shared.low_rank[place_of(index + GANDER_TOKEN_THREADS)] = value_of(values.low_rank[1]);
  }
  const float r = value_of(values.r);
  const float raw_k = value_of(values.k);
  float v = value_of(values.v);
  const float first_v = has_value_mix ? buffers.v_first[channel] : v;
  if (part == 0u && !has_value_mix) buffers.v_first[channel] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint x_a = kRankW;
  const uint x_v = x_a + kRankA;
  const uint x_g = x_v + kRankV;
  const float w =
      decay(inputs.w0 + multiply_row(inputs.w2, matrices.w2, channel, part, shared.low_rank, 0u));
  const float a = sigmoid(
      inputs.a0 + multiply_row(inputs.a2, matrices.a2, channel, part, shared.low_rank, x_a));
  const float value_mix = multiply_row(inputs.v2, matrices.v2, channel, part, shared.low_rank, x_v);
  if (has_value_mix) v += (first_v - v) * sigmoid(inputs.v0 + value_mix);
  // The gate is needed last: the rest of its row is on its way until then.
  float gate = multiply_groups(inputs.g2, matrices.g2, part, shared.low_rank, x_g);
  const RankGroups<7u> rest_of_g2 = load_groups<7u>(matrices.g2, channel, part + 8u);
  const float raw_kk = raw_k * inputs.k_k;
  const float k = raw_k * (1.0f + (a - 1.0f) * inputs.k_a);
  if (part == 0u) {
    const uint place = place_of(row);
    shared.decay[place] = w;
    shared.wr[place] = w * r;
    shared.kk[place] = raw_kk;
    shared.b[place] = raw_kk * a;
    shared.key[place] = k;
    shared.square[row] = raw_kk * raw_kk;
    shared.b_r[row] = raw_kk * a * r;
    shared.k_r[row] = k * r;
    shared.bonus[row] = r * k * inputs.r_k;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const float inverse_norm =
      1.0f / max(precise::sqrt(sum_of_channels(shared.square, lane)), 1e-12f);
  const float b_r = sum_of_channels(shared.b_r, lane) * inverse_norm;
  const float k_r = sum_of_channels(shared.k_r, lane);
  const float bonus = sum_of_channels(shared.bonus, lane);
  const TwoQuads w_quads = two_quads(shared.decay, 8u * part);
  const TwoQuads b_quads = two_quads(shared.b, 8u * part);
  const TwoQuads k_quads = two_quads(shared.key, 8u * part);
  const float kept = sum_of_row(dot(inputs.s0, inputs.s1, two_quads(shared.wr, 8u * part)));
  const float removed =
      sum_of_row(dot(inputs.s0, inputs.s1, two_quads(shared.kk, 8u * part))) * inverse_norm;
  const float b_scale = removed * inverse_norm;
  device float4* to = state_of(buffers, channel, part);
  to[0] = inputs.s0 * w_quads.first - b_scale * b_quads.first + v * k_quads.first;
  to[1] = inputs.s1 * w_quads.second - b_scale * b_quads.second + v * k_quads.second;
  const float y = kept - removed * b_r + v * k_r;
  gate += multiply_groups(rest_of_g2, matrices.g2, part + 8u, shared.low_rank, x_g);
  gate += multiply_rest(matrices.g2, channel, is_wide(matrices.g2.type) ? part : part + 64u,
                        shared.low_rank, x_g);
  gate = sum_of_row(gate);
  if (part == 0u) shared.y[row] = y;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // GroupNorm; its epsilon is N times that of the LayerNorms.
  const float mean = sum_of_channels(shared.y, lane) / float(GANDER_HEAD);
  const float d0 = shared.y[lane] - mean;
  const float d1 = shared.y[lane + 32u] - mean;
  const float variance = simd_sum(d0 * d0 + d1 * d1) / float(GANDER_HEAD);
  const float scale = precise::rsqrt(variance + float(GANDER_HEAD) * kNormEpsilon);
  if (part == 0u) {
    const float normal = (y - mean) * scale * inputs.ln_x_weight + inputs.ln_x_bias;
    hand_over(buffers.gated + channel, (normal + bonus * v) * gate, buffers.round);
  }
}
