#include <metal_stdlib>
using namespace metal;

#include "dot_rows.h"
#include "layer_norm.h"
#include "parameters.h"

// Stage C: x = x + O gated.
kernel void time_mix_out(device const float* gated [[buffer(0)]],
                         device const uchar* output [[buffer(1)]],
                         device float* x [[buffer(2)]],
                         constant RowsParameters& parameters [[buffer(3)]],
                         threadgroup float* scratch [[threadgroup(0)]],
                         uint position [[threadgroup_position_in_grid]],
                         uint lane [[thread_index_in_simdgroup]],
                         uint simdgroup [[simdgroup_index_in_threadgroup]],
                         uint simdgroups [[simdgroups_per_threadgroup]]) {
  load_vector(gated, scratch, group_thread(lane, simdgroup, simdgroups));
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const MatrixView matrix = matrix_view(output, parameters.type, kWidth, kWidth);
  const uint begin = position * parameters.rows_per_group;
  const uint end = min(begin + parameters.rows_per_group, matrix.rows);
  for (uint row = begin + 4u * simdgroup; row < end; row += 4u * simdgroups) {
    const float4 sums = dot_rows(matrix, row, scratch, lane);
    if (lane < 4u && row + lane < end) x[row + lane] += sums[lane];
  }
}
