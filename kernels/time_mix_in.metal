#include <metal_stdlib>
using namespace metal;

#include "activations.h"
#include "dot_rows.h"
#include "layer_norm.h"
#include "parameters.h"

// Groups are handed to the matrices in order: takes `rows` rows' groups off the front of the grid,
// or finds that `group` is one of them, number `group` of that matrix.
static inline bool takes_group(thread uint& group, uint rows, uint rows_per_group) {
  const uint groups = (rows + rows_per_group - 1u) / rows_per_group;
  if (group < groups) return true;
  group -= groups;
  return false;
}

// Stage A: xx = LN(x); y_m = W_m (xx + (shift - xx) mix_m) for the seven matrices of the time mix
// that read x, a part of the rows of one matrix a group.
kernel void time_mix_in(device const float* x [[buffer(0)]],
                        device const float* shift [[buffer(1)]],
                        device const float* norm [[buffer(2)]],
                        device const float* mix [[buffer(3)]],
                        device const uchar* receptance [[buffer(4)]],
                        device const uchar* key [[buffer(5)]],
                        device const uchar* value [[buffer(6)]],
                        device const uchar* w1 [[buffer(7)]],
                        device const uchar* a1 [[buffer(8)]],
                        device const uchar* v1 [[buffer(9)]],
                        device const uchar* g1 [[buffer(10)]],
                        device float* projected [[buffer(11)]],
                        device float* low_rank [[buffer(12)]],
                        device float* normalized [[buffer(13)]],
                        constant TimeMixInParameters& parameters [[buffer(14)]],
                        threadgroup float* scratch [[threadgroup(0)]],
                        uint position [[threadgroup_position_in_grid]],
                        uint lane [[thread_index_in_simdgroup]],
                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);

  const uint rows_per_group = parameters.rows_per_group;
  const uint rank_v = parameters.has_value_mix != 0u ? kRankV : 0u;
  uint group = position;
  uint mixed = 0u;  // row of `mix`: x_r x_w x_k x_v x_a x_g
  MatrixView matrix;
  device float* out;
  if (takes_group(group, kWidth, rows_per_group)) {
    matrix = matrix_view(receptance, parameters.type_receptance, kWidth, kWidth);
    mixed = 0u;
    out = projected;
  } else if (takes_group(group, kWidth, rows_per_group)) {
    matrix = matrix_view(key, parameters.type_key, kWidth, kWidth);
    mixed = 2u;
    out = projected + kWidth;
  } else if (takes_group(group, kWidth, rows_per_group)) {
    matrix = matrix_view(value, parameters.type_value, kWidth, kWidth);
    mixed = 3u;
    out = projected + 2u * kWidth;
  } else if (takes_group(group, kRankW, rows_per_group)) {
    matrix = matrix_view(w1, parameters.type_w1, kRankW, kWidth);
    mixed = 1u;
    out = low_rank;
  } else if (takes_group(group, kRankA, rows_per_group)) {
    matrix = matrix_view(a1, parameters.type_a1, kRankA, kWidth);
    mixed = 4u;
    out = low_rank + kRankW;
  } else if (takes_group(group, rank_v, rows_per_group)) {
    matrix = matrix_view(v1, parameters.type_v1, kRankV, kWidth);
    mixed = 3u;
    out = low_rank + kRankW + kRankA;
  } else {
    matrix = matrix_view(g1, parameters.type_g1, kRankG, kWidth);
    mixed = 5u;
    out = low_rank + kRankW + kRankA + kRankV;
  }

  load_vector(x, scratch, self);
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  if (position == 0u) store_vector(scratch, normalized, self);
  shift_vector(scratch, shift, mix + mixed * kWidth, self);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const uint end = min((group + 1u) * rows_per_group, matrix.rows);
  for (uint row = group * rows_per_group + 4u * simdgroup; row < end; row += 4u * simdgroups) {
    const float4 sums = dot_rows(matrix, row, scratch, lane);
    if (lane < 4u && row + lane < end) {
      const float sum = sums[lane];
      out[row + lane] = mixed == 1u ? precise::tanh(sum) : mixed == 5u ? sigmoid(sum) : sum;
    }
  }
}
