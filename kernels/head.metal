#include <metal_stdlib>
using namespace metal;

#include "dot_rows.h"
#include "layer_norm.h"
#include "maxima.h"
#include "parameters.h"

// logits = head LN(x), and the largest logit of the group's rows with its token.
kernel void head(device const float* x [[buffer(0)]],
                 device const float* norm [[buffer(1)]],
                 device const uchar* head_matrix [[buffer(2)]],
                 device float* logits [[buffer(3)]],
                 device uint2* maxima [[buffer(4)]],
                 constant RowsParameters& parameters [[buffer(5)]],
                 threadgroup float* scratch [[threadgroup(0)]],
                 uint position [[threadgroup_position_in_grid]],
                 uint lane [[thread_index_in_simdgroup]],
                 uint simdgroup [[simdgroup_index_in_threadgroup]],
                 uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  load_vector(x, scratch, self);
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const MatrixView matrix = matrix_view(head_matrix, parameters.type, kVocabSize, kWidth);
  const uint begin = position * parameters.rows_per_group;
  const uint end = min(begin + parameters.rows_per_group, matrix.rows);
  uint2 largest = uint2(0u, 0xffffffffu);
  for (uint row = begin + 4u * simdgroup; row < end; row += 4u * simdgroups) {
    const float4 sums = dot_rows(matrix, row, scratch, lane);
    if (lane < 4u && row + lane < end) {
      logits[row + lane] = sums[lane];
      largest = larger(largest, uint2(ordered_bits(sums[lane]), row + lane));
    }
  }

  // Of the four lanes, then of the SIMD groups.
  largest = larger(largest, simd_shuffle_xor(largest, 1));
  largest = larger(largest, simd_shuffle_xor(largest, 2));
  threadgroup uint2* partials = (threadgroup uint2*)(scratch + round_up(kWidth, 4u));
  if (lane == 0u) partials[simdgroup] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (self.index == 0u) {
    for (uint i = 1u; i < simdgroups; ++i) largest = larger(largest, partials[i]);
    maxima[position] = largest;
  }
}
