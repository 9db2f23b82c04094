#include <metal_stdlib>
using namespace metal;

#include "activations.h"
#include "dot_rows.h"
#include "layer_norm.h"
#include "parameters.h"

// Stage D: xx = LN(x); hidden = relu(K (xx + (shift - xx) mix))^2.
kernel void ffn_key(device const float* x [[buffer(0)]],
                    device const float* shift [[buffer(1)]],
                    device const float* norm [[buffer(2)]],
                    device const float* mix [[buffer(3)]],
                    device const uchar* key [[buffer(4)]],
                    device float* hidden [[buffer(5)]],
                    device float* normalized [[buffer(6)]],
                    constant RowsParameters& parameters [[buffer(7)]],
                    threadgroup float* scratch [[threadgroup(0)]],
                    uint position [[threadgroup_position_in_grid]],
                    uint lane [[thread_index_in_simdgroup]],
                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                    uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  load_vector(x, scratch, self);
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  if (position == 0u) store_vector(scratch, normalized, self);
  shift_vector(scratch, shift, mix, self);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const MatrixView matrix = matrix_view(key, parameters.type, kFfnWidth, kWidth);
  const uint begin = position * parameters.rows_per_group;
  const uint end = min(begin + parameters.rows_per_group, matrix.rows);
  for (uint row = begin + 4u * simdgroup; row < end; row += 4u * simdgroups) {
    const float4 sums = dot_rows(matrix, row, scratch, lane);
    if (lane < 4u && row + lane < end) hidden[row + lane] = squared_relu(sums[lane]);
  }
}
