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

// x = x + the slices, in order.
template <typename Element>
static inline void add_slices_to(device Element* x, device const Element* slices, uint count,
                                 uint stride, threadgroup Element* sum, GroupThread self) {
  for (uint i = self.index; i < width_elements<Element>(); i += self.count) {
    Element value = x[i];
    for (uint s = 0u; s < count; ++s) value += slices[ulong(s) * stride + i];
    sum[i] = value;
    if (count > 0u) x[i] = value;
  }
}

// x = x + sums; normalized = LN(x). The rows before the last of each sequence's are of no use to
// the next step: `kept` of the last one, what the norm before left, becomes the shift state. It is
// done here since every row that reads that state has done so.
kernel void batch_norm(device const BatchRow* rows [[buffer(0)]],
                       device const uint* counts [[buffer(1)]],
                       device float* x [[buffer(2)]],
                       device const float* slices [[buffer(3)]],
                       device const float* norm [[buffer(4)]],
                       device float* normalized [[buffer(5)]],
                       device const float* kept [[buffer(6)]],
                       device float* shift [[buffer(7)]],
                       constant BatchNormParameters& parameters [[buffer(8)]],
                       threadgroup float* scratch [[threadgroup(0)]],
                       uint row [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_ROWS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const ulong at = ulong(row) * kWidth;
  if (width_has_quads()) {
    add_slices_to((device float4*)(x + at), (device const float4*)(slices + at), parameters.slices,
                  parameters.slice_stride / 4u, (threadgroup float4*)scratch, self);
  } else {
    add_slices_to(x + at, slices + at, parameters.slices, parameters.slice_stride, scratch, self);
  }
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  store_vector(scratch, normalized + at, self);
  if (parameters.keeps != 0u && rows[row].is_last != 0u) {
    device float* to = shift + ulong(rows[row].slot) * parameters.slot_floats;
    for (uint i = self.index; i < kWidth; i += self.count) to[i] = kept[at + i];
  }
}

static inline half4 halves_in_range(float4 x) {
  return half4(min(max(x, float4(-65504.0f)), float4(65504.0f)));
}

// The rows' inputs of the matrices, as halves: x_m = xx + (prev - xx) mix_m.
kernel void batch_shift(device const BatchRow* rows [[buffer(0)]],
                        device const uint* counts [[buffer(1)]],
                        device const float* normalized [[buffer(2)]],
                        device const float* shift [[buffer(3)]],
                        device const float* mix [[buffer(4)]],
                        device half* inputs [[buffer(5)]],
                        constant BatchShiftParameters& parameters [[buffer(6)]],
                        uint row [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_ROWS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  device const float* current = normalized + ulong(row) * kWidth;
  device const float* previous = rows[row].is_first != 0u
                                     ? shift + ulong(rows[row].slot) * parameters.slot_floats
                                     : current - kWidth;
  device half* to = inputs + ulong(row) * parameters.row_stride;
  if (width_has_quads()) {
    for (uint i = self.index; i < kWidth / 4u; i += self.count) {
      const float4 x = ((device const float4*)current)[i];
      const float4 difference = ((device const float4*)previous)[i] - x;
      for (uint m = 0u; m < parameters.mixes; ++m) {
        const float4 factor = ((device const float4*)(mix + m * kWidth))[i];
        ((device half4*)(to + ulong(m) * parameters.matrix_stride))[i] =
            halves_in_range(x + difference * factor);
      }
    }
  } else {
    for (uint i = self.index; i < kWidth; i += self.count) {
      const float x = current[i];
      const float difference = previous[i] - x;
      for (uint m = 0u; m < parameters.mixes; ++m) {
        to[ulong(m) * parameters.matrix_stride + i] =
            halves_in_range(float4(x + difference * mix[m * kWidth + i])).x;
      }
    }
  }
}

// The head's inputs: rows that want logits.
kernel void batch_gather(device const uint* wanted [[buffer(0)]],
                         device const uint* counts [[buffer(1)]],
                         device const float* normalized [[buffer(2)]],
                         device half* inputs [[buffer(3)]],
                         constant BatchHeadRowsParameters& parameters [[buffer(4)]],
                         uint row [[threadgroup_position_in_grid]],
                         uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]]) {
  if (row >= counts[GANDER_COUNT_LOGITS]) return;
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  device const float* from = normalized + ulong(wanted[row]) * kWidth;
  for (uint i = self.index; i < kWidth; i += self.count) {
    inputs[ulong(row) * parameters.row_stride + i] = halves_in_range(float4(from[i])).x;
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
  for (uint i = self.index; i < kVocabSize; i += self.count) {
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
