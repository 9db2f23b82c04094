#include <metal_stdlib>
using namespace metal;

#include "../dot_rows.h"
#include "../group.h"
#include "activation.h"
#include "parameters.h"

// y = activation(W x). A group keeps x in thread-group memory, which limits columns to 8,192; each
// of its SIMD groups takes four rows.
kernel void matmul_vec(device const uchar* weights [[buffer(0)]],
                       device const float* x [[buffer(1)]],
                       device float* y [[buffer(2)]],
                       constant MatmulParameters& parameters [[buffer(3)]],
                       threadgroup float* scratch [[threadgroup(0)]],
                       uint position [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  for (uint i = self.index; i < parameters.columns; i += self.count) scratch[i] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint row = 4u * (position * simdgroups + simdgroup);
  if (row >= parameters.rows) return;
  const MatrixView matrix =
      matrix_view(weights, parameters.type, parameters.rows, parameters.columns);
  const float4 sums = dot_rows(matrix, row, scratch, lane);
  if (lane < 4u && row + lane < parameters.rows) {
    y[row + lane] = activated(sums[lane], parameters.activation);
  }
}

// Columns `column` to column + 31 of 32 rows, as floats; zeros outside of the matrix. By 128
// threads.
template <typename Format>
static inline void decode_tile_of(MatrixView matrix, uint row, uint column,
                                  threadgroup float* tile, uint index) {
  const ulong row_bytes = ulong(Format::row_bytes(matrix.columns));
  for (uint i = index; i < 1024u; i += 128u) {
    const uint r = row + i / 32u;
    const uint c = column + i % 32u;
    const bool inside = r < matrix.rows && c < matrix.columns;
    tile[i] = inside ? Format::value(matrix.data + row_bytes * r, c) : 0.0f;
  }
}

static inline void decode_tile(MatrixView matrix, uint row, uint column, threadgroup float* tile,
                               uint index) {
  if (has_type(GANDER_F32) && matrix.type == GANDER_F32) {
    decode_tile_of<F32>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_F16) && matrix.type == GANDER_F16) {
    decode_tile_of<F16>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_BF16) && matrix.type == GANDER_BF16) {
    decode_tile_of<BF16>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_Q8_0) && matrix.type == GANDER_Q8_0) {
    decode_tile_of<Q8_0>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_Q4_0) && matrix.type == GANDER_Q4_0) {
    decode_tile_of<Q4_0>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_Q4_K) && matrix.type == GANDER_Q4_K) {
    decode_tile_of<Q4_K>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_Q5_K) && matrix.type == GANDER_Q5_K) {
    decode_tile_of<Q5_K>(matrix, row, column, tile, index);
  } else if (has_type(GANDER_Q6_K) && matrix.type == GANDER_Q6_K) {
    decode_tile_of<Q6_K>(matrix, row, column, tile, index);
  }
}

// y[t] = activation(W x[t]) for the rows of a chunk: x is [T][columns], y [T][rows]. A group of
// exactly 128 threads computes 32 rows of W for 32 tokens, 32 columns at a time; a SIMD group takes
// 8 of the tokens. The grid is ceil(rows / 32) by ceil(tokens / 32).
kernel void matmul_mat(device const uchar* weights [[buffer(0)]],
                       device const float* x [[buffer(1)]],
                       device float* y [[buffer(2)]],
                       constant MatmulParameters& parameters [[buffer(3)]],
                       uint2 position [[threadgroup_position_in_grid]],
                       uint index [[thread_index_in_threadgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]]) {
  threadgroup float weight_tile[1024];  // [row][column]
  threadgroup float x_tile[1024];       // [token][column]; at the end [token][row] of y
  const MatrixView matrix =
      matrix_view(weights, parameters.type, parameters.rows, parameters.columns);
  const uint first_row = 32u * position.x;
  const uint first_token = 32u * position.y;
  simdgroup_float8x8 sums[4];  // 8 tokens, 8 rows each
  for (uint i = 0u; i < 4u; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8>(0.0f);

  for (uint column = 0u; column < parameters.columns; column += 32u) {
    decode_tile(matrix, first_row, column, weight_tile, index);
    for (uint i = index; i < 1024u; i += 128u) {
      const uint t = first_token + i / 32u;
      const uint c = column + i % 32u;
      const bool inside = t < parameters.tokens && c < parameters.columns;
      x_tile[i] = inside ? x[ulong(t) * parameters.columns + c] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint k = 0u; k < 32u; k += 8u) {
      simdgroup_float8x8 inputs;
      simdgroup_load(inputs, x_tile + 256u * simdgroup + k, 32);
      for (uint i = 0u; i < 4u; ++i) {
        simdgroup_float8x8 rows;
        simdgroup_load(rows, weight_tile + 256u * i + k, 32, ulong2(0), true);
        simdgroup_multiply_accumulate(sums[i], inputs, rows, sums[i]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  for (uint i = 0u; i < 4u; ++i) simdgroup_store(sums[i], x_tile + 256u * simdgroup + 8u * i, 32);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = index; i < 1024u; i += 128u) {
    const uint t = first_token + i / 32u;
    const uint row = first_row + i % 32u;
    if (t < parameters.tokens && row < parameters.rows) {
      y[ulong(t) * parameters.rows + row] = activated(x_tile[i], parameters.activation);
    }
  }
}
