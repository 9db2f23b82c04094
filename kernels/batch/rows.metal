#include <metal_stdlib>
using namespace metal;

#include "../dot_rows.h"
#include "../layer_norm.h"
#include "../maxima.h"
#include "../parameters.h"
#include "parameters.h"

// What is done to each row of a step beside products and recurrence: a row a group. Rows that the
// step has not, of those that a program was recorded for, are left out.

// x = LN(emb[token])
kernel void batch_embed(device const BatchRow* rows [[buffer(0)]],
                        device const uint* counts [[buffer(1)]],
                        device const uchar* emb [[buffer(2)]],
                        device const float* norm [[buffer(3)]],
                        device float* x [[buffer(4)]],
                        constant EmbedParameters& parameters [[buffer(5)]],
                        threadgroup float* scratch [[threadgroup(0)]],
                        uint row [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_ROWS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const MatrixView matrix = matrix_view(emb, parameters.type, kVocabSize, kWidth);
  const uint token = rows[row].token;
  for (uint i = self.index; i < kWidth; i += self.count) {
    scratch[i] = matrix_value(matrix, token, i);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  store_vector(scratch, x + ulong(row) * kWidth, self);
}

// A thread's quads of a row of the model's width: index, index + threads, ... Past the width there
// are zeros.
struct RowQuads {
  float4 quads[GANDER_MIX_QUADS];
};

static inline uint quads_of_width() {
  return (kWidth + 3u) / 4u;
}

static inline float4 load_width_quad(device const float* row, uint quad) {
  if (kWidth % 4u == 0u) return ((device const float4*)row)[quad];
  float4 values = float4(0.0f);
  for (uint i = 0u; i < 4u; ++i) {
    if (4u * quad + i < kWidth) values[i] = row[4u * quad + i];
  }
  return values;
}
static inline void store_width_quad(device float* row, uint quad, float4 values) {
  if (kWidth % 4u == 0u) {
    ((device float4*)row)[quad] = values;
    return;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (4u * quad + i < kWidth) row[4u * quad + i] = values[i];
  }
}

// Whether a thread's quad `i` and all after it are past the width, in every thread.
static inline bool is_past_width(uint i, GroupThread self) {
  return i > 0u && self.count * i >= quads_of_width();
}

// The row, and the slices' sums in their order. All are asked for before the first has come.
static inline RowQuads load_row(device const float* x, device const float* slices, uint count,
                                uint stride, GroupThread self) {
  RowQuads row;
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) {
    row.quads[i] = float4(0.0f);
    if (is_past_width(i, self)) continue;
    const uint quad = self.index + self.count * i;
    const uint inside = min(quad, quads_of_width() - 1u);
    float4 sum = load_width_quad(x, inside);
    float4 parts[GANDER_MOST_SLICES];
#pragma unroll
    for (uint s = 0u; s < GANDER_MOST_SLICES; ++s) {
      parts[s] = float4(0.0f);
      if (s < count) parts[s] = load_width_quad(slices + ulong(s) * stride, inside);
    }
#pragma unroll
    for (uint s = 0u; s < GANDER_MOST_SLICES; ++s) {
      if (s < count) sum += parts[s];
    }
    if (quad == inside) row.quads[i] = sum;
  }
  return row;
}

static inline void store_row(RowQuads row, device float* to, GroupThread self) {
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) {
    const uint quad = self.index + self.count * i;
    if (quad < quads_of_width()) store_width_quad(to, quad, row.quads[i]);
  }
}

static inline float sum_of_row_quads(RowQuads row) {
  float sum = 0.0f;
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) sum += sum_of(row.quads[i]);
  return sum;
}

// The squares of deviations from the mean.
static inline float squares_of_row(RowQuads row, float mean, GroupThread self) {
  float sum = 0.0f;
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) {
    const uint channel = 4u * (self.index + self.count * i);
    float4 deviation = row.quads[i] - mean;
    for (uint j = 0u; j < 4u; ++j) {
      if (channel + j >= kWidth) deviation[j] = 0.0f;
    }
    sum += sum_of(deviation * deviation);
  }
  return sum;
}

static inline float4 normalized_quad(float4 x, float mean, float scale, device const float* norm,
                                     uint quad) {
  return (x - mean) * scale * load_width_quad(norm, quad) +
         load_width_quad(norm + kWidth, quad);
}

// Two sums over all threads, given to all of them; over SIMD groups in index order.
static inline float2 group_sums(float2 value, threadgroup float2* partials, GroupThread self) {
  const float2 sum = simd_sum(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums of before have been read
  if (self.lane == 0u) partials[self.simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float2 total = float2(0.0f);
  for (uint i = 0u; i < self.simdgroups; ++i) total += partials[i];
  return total;
}

// Mean and scale of the LayerNorm of two rows.
struct TwoNorms {
  float2 mean, scale;
};
static inline TwoNorms norms_of(RowQuads first, RowQuads second, threadgroup float2* partials,
                                GroupThread self) {
  TwoNorms norms;
  norms.mean = group_sums(float2(sum_of_row_quads(first), sum_of_row_quads(second)), partials,
                          self) /
               float(kWidth);
  const float2 variance = group_sums(float2(squares_of_row(first, norms.mean.x, self),
                                            squares_of_row(second, norms.mean.y, self)),
                                     partials, self) /
                          float(kWidth);
  norms.scale = float2(precise::rsqrt(variance.x + kNormEpsilon),
                       precise::rsqrt(variance.y + kNormEpsilon));
  return norms;
}

static inline half4 halves_in_range(float4 x) {
  return half4(min(max(x, float4(-65504.0f)), float4(65504.0f)));
}
static inline void store_halves(device half* row, uint quad, float4 values) {
  const half4 halves = halves_in_range(values);
  if (kWidth % 4u == 0u) {
    ((device half4*)row)[quad] = halves;
    return;
  }
  for (uint i = 0u; i < 4u; ++i) {
    if (4u * quad + i < kWidth) row[4u * quad + i] = halves[i];
  }
}

// The inputs of the matrices of a stage, as halves: xx = LN(x); x_m = xx + (prev - xx) mix_m. prev
// is the row before, of which the LayerNorm is taken here too, or the shift state.
//
// x is what x_in and the slices add up to, and is kept in x_out for the next stage: not in place,
// because the next row needs x_in too. xx of a sequence's last row is kept in `last`. It becomes
// the shift state only in the next stage, as `kept` of the stage before does here: until then rows
// read the old one. Where every sequence has one row, nobody else does, and xx goes there at once.
kernel void batch_mix(device const BatchRow* rows [[buffer(0)]],
                      device const uint* counts [[buffer(1)]],
                      device const float* x_in [[buffer(2)]],
                      device const float* slices [[buffer(3)]],
                      device float* x_out [[buffer(4)]],
                      device const float* norm [[buffer(5)]],
                      device const float* mix [[buffer(6)]],
                      device const float* shift [[buffer(7)]],
                      device half* inputs [[buffer(8)]],
                      device float* last [[buffer(9)]],
                      device const float* kept [[buffer(10)]],
                      device float* kept_shift [[buffer(11)]],
                      constant BatchMixParameters& parameters [[buffer(12)]],
                      threadgroup float* scratch [[threadgroup(0)]],
                      uint row [[threadgroup_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  const BatchRow what = rows[row];
  if (row >= counts[GANDER_COUNT_ROWS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const ulong at = ulong(row) * kWidth;
  const ulong slot = ulong(what.slot) * parameters.slot_floats;
  const bool is_first = what.is_first != 0u;
  const bool is_last = what.is_last != 0u;
  const RowQuads own =
      load_row(x_in + at, slices + at, parameters.slices, parameters.slice_stride, self);
  RowQuads previous;
  if (is_first) {
    previous = load_row(shift + slot, shift, 0u, 0u, self);
  } else {
    previous = load_row(x_in + at - kWidth, slices + at - kWidth, parameters.slices,
                        parameters.slice_stride, self);
  }
  const TwoNorms norms = norms_of(own, previous, (threadgroup float2*)scratch, self);
  if (parameters.slices > 0u) store_row(own, x_out + at, self);
  device half* to = inputs + ulong(row) * parameters.row_stride;
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) {
    const uint quad = self.index + self.count * i;
    if (quad >= quads_of_width()) continue;
    float4 mixes[GANDER_MOST_MIXES];
#pragma unroll
    for (uint m = 0u; m < GANDER_MOST_MIXES; ++m) {
      mixes[m] = float4(0.0f);
      if (m < parameters.mixes) mixes[m] = load_width_quad(mix + m * kWidth, quad);
    }
    const float4 xx = normalized_quad(own.quads[i], norms.mean.x, norms.scale.x, norm, quad);
    float4 before = previous.quads[i];
    if (!is_first) before = normalized_quad(before, norms.mean.y, norms.scale.y, norm, quad);
#pragma unroll
    for (uint m = 0u; m < GANDER_MOST_MIXES; ++m) {
      if (m >= parameters.mixes) break;
      store_halves(to + ulong(m) * parameters.matrix_stride, quad, xx + (before - xx) * mixes[m]);
    }
    if (parameters.singles != 0u) {
      store_width_quad(kept_shift + slot, quad, xx);
      continue;
    }
    if (is_last) store_width_quad(last + at, quad, xx);
    if (is_last && parameters.keeps != 0u) {
      store_width_quad(kept_shift + slot, quad, load_width_quad(kept + at, quad));
    }
  }
}

// The end of a step: the last stage's `kept` of each sequence's last row becomes its shift state.
kernel void batch_keep(device const BatchSequence* sequences [[buffer(0)]],
                       device const uint* counts [[buffer(1)]],
                       device const float* kept [[buffer(2)]],
                       device float* shift [[buffer(3)]],
                       constant BatchKeepParameters& parameters [[buffer(4)]],
                       uint sequence [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (sequence >= counts[GANDER_COUNT_SEQUENCES]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint row = sequences[sequence].first + sequences[sequence].rows - 1u;
  device float* to = shift + ulong(sequences[sequence].slot) * parameters.slot_floats;
  for (uint i = self.index; i < kWidth; i += self.count) to[i] = kept[ulong(row) * kWidth + i];
}

// The head's inputs: LN(x) of the rows that want logits.
kernel void batch_head_rows(device const uint* wanted [[buffer(0)]],
                            device const uint* counts [[buffer(1)]],
                            device const float* x [[buffer(2)]],
                            device const float* slices [[buffer(3)]],
                            device const float* norm [[buffer(4)]],
                            device half* inputs [[buffer(5)]],
                            constant BatchHeadRowsParameters& parameters [[buffer(6)]],
                            threadgroup float* scratch [[threadgroup(0)]],
                            uint row [[threadgroup_position_in_grid]],
                            uint lane [[thread_index_in_simdgroup]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_LOGITS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const ulong at = ulong(wanted[row]) * kWidth;
  const RowQuads own =
      load_row(x + at, slices + at, parameters.slices, parameters.slice_stride, self);
  const TwoNorms norms = norms_of(own, own, (threadgroup float2*)scratch, self);
#pragma unroll
  for (uint i = 0u; i < GANDER_MIX_QUADS; ++i) {
    const uint quad = self.index + self.count * i;
    if (quad >= quads_of_width()) continue;
    store_halves(inputs + ulong(row) * parameters.row_stride, quad,
                 normalized_quad(own.quads[i], norms.mean.x, norms.scale.x, norm, quad));
  }
}

// The token of the largest logit of each row; of equal ones the first.
kernel void batch_best(device const float* logits [[buffer(0)]],
                       device const uint* counts [[buffer(1)]],
                       device uint* best [[buffer(2)]],
                       threadgroup float* scratch [[threadgroup(0)]],
                       uint row [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_LOGITS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  device const float* from = logits + ulong(row) * kVocabSize;
  uint2 largest = uint2(0u, 0xffffffffu);
  const uint quads = kVocabSize % 4u == 0u ? kVocabSize / 4u : 0u;  // else rows begin anywhere
#pragma unroll 4
  for (uint quad = self.index; quad < quads; quad += self.count) {
    const float4 logits_of_quad = ((device const float4*)from)[quad];
    for (uint i = 0u; i < 4u; ++i) {
      largest = larger(largest, uint2(ordered_bits(logits_of_quad[i]), 4u * quad + i));
    }
  }
  for (uint i = 4u * quads + self.index; i < kVocabSize; i += self.count) {
    largest = larger(largest, uint2(ordered_bits(from[i]), i));
  }
  for (ushort distance = 16; distance > 0; distance /= 2) {
    largest = larger(largest, simd_shuffle_xor(largest, distance));
  }
  threadgroup uint2* partials = (threadgroup uint2*)scratch;
  if (lane == 0u) partials[simdgroup] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (self.index == 0u) {
    for (uint i = 1u; i < simdgroups; ++i) largest = larger(largest, partials[i]);
    best[row] = largest.y;
  }
}
