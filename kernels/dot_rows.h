#pragma once

#include "formats_k.h"
#include "model.h"

// Rows of a matrix times a vector in thread-group memory: a SIMD group takes four rows at once, so
// that x is loaded and prepared once for four, and four loads of weights are in flight.

struct MatrixView {
  device const uchar* data;
  uint type;  // GANDER_F32, ...
  uint rows, columns;
};

static inline MatrixView matrix_view(device const uchar* data, uint type, uint rows, uint columns) {
  MatrixView matrix;
  matrix.data = data;
  matrix.type = type;
  matrix.rows = rows;
  matrix.columns = columns;
  return matrix;
}

template <typename Format>
static inline float4 dot_rows_of(MatrixView matrix, uint row, threadgroup const float* x,
                                 uint lane) {
  const ulong row_bytes = ulong(Format::row_bytes(matrix.columns));
  const uint last = matrix.rows - 1u;
  device const uchar* row0 = matrix.data + row_bytes * min(row, last);
  device const uchar* row1 = matrix.data + row_bytes * min(row + 1u, last);
  device const uchar* row2 = matrix.data + row_bytes * min(row + 2u, last);
  device const uchar* row3 = matrix.data + row_bytes * min(row + 3u, last);
  float4 sums = float4(0.0f);
  for (uint share = lane; share < matrix.columns / uint(Format::kColumns); share += 32u) {
    const typename Format::Inputs inputs = Format::load(x, share);
    sums += float4(Format::multiply(row0, share, inputs), Format::multiply(row1, share, inputs),
                   Format::multiply(row2, share, inputs), Format::multiply(row3, share, inputs));
  }
  return sums;
}

// Rows `row` to row + 3 times x, in every lane of the SIMD group. Past the matrix's last row there
// are copies of it. x is aligned to 16 bytes. `columns` comes from function constants, so one of
// two paths is compiled.
static inline float4 dot_rows(MatrixView matrix, uint row, threadgroup const float* x, uint lane) {
  float4 sums = float4(0.0f);
  const bool whole_loads = matrix.columns % 8u == 0u;
  if (has_type(GANDER_F32) && matrix.type == GANDER_F32) {
    sums = whole_loads ? dot_rows_of<F32>(matrix, row, x, lane)
                       : dot_rows_of<Scalars<F32> >(matrix, row, x, lane);
  } else if (has_type(GANDER_F16) && matrix.type == GANDER_F16) {
    sums = whole_loads ? dot_rows_of<F16>(matrix, row, x, lane)
                       : dot_rows_of<Scalars<F16> >(matrix, row, x, lane);
  } else if (has_type(GANDER_BF16) && matrix.type == GANDER_BF16) {
    sums = whole_loads ? dot_rows_of<BF16>(matrix, row, x, lane)
                       : dot_rows_of<Scalars<BF16> >(matrix, row, x, lane);
  } else if (has_type(GANDER_Q8_0) && matrix.type == GANDER_Q8_0) {
    sums = dot_rows_of<Q8_0>(matrix, row, x, lane);
  } else if (has_type(GANDER_Q4_0) && matrix.type == GANDER_Q4_0) {
    sums = dot_rows_of<Q4_0>(matrix, row, x, lane);
  } else if (has_type(GANDER_Q4_K) && matrix.type == GANDER_Q4_K) {
    sums = dot_rows_of<Q4_K>(matrix, row, x, lane);
  } else if (has_type(GANDER_Q5_K) && matrix.type == GANDER_Q5_K) {
    sums = dot_rows_of<Q5_K>(matrix, row, x, lane);
  } else if (has_type(GANDER_Q6_K) && matrix.type == GANDER_Q6_K) {
    sums = dot_rows_of<Q6_K>(matrix, row, x, lane);
  }
  return simd_sum(sums);
}

// One weight, for a row that is read once.
static inline float matrix_value(MatrixView matrix, uint row, uint column) {
  device const uchar* data = matrix.data;
  switch (matrix.type) {
    case GANDER_F32:
      return F32::value(data + ulong(F32::row_bytes(matrix.columns)) * row, column);
    case GANDER_F16:
      return F16::value(data + ulong(F16::row_bytes(matrix.columns)) * row, column);
    case GANDER_BF16:
      return BF16::value(data + ulong(BF16::row_bytes(matrix.columns)) * row, column);
    case GANDER_Q8_0:
      return Q8_0::value(data + ulong(Q8_0::row_bytes(matrix.columns)) * row, column);
    case GANDER_Q4_0:
      return Q4_0::value(data + ulong(Q4_0::row_bytes(matrix.columns)) * row, column);
    case GANDER_Q4_K:
      return Q4_K::value(data + ulong(Q4_K::row_bytes(matrix.columns)) * row, column);
    case GANDER_Q5_K:
      return Q5_K::value(data + ulong(Q5_K::row_bytes(matrix.columns)) * row, column);
    case GANDER_Q6_K:
      return Q6_K::value(data + ulong(Q6_K::row_bytes(matrix.columns)) * row, column);
    default:
      return 0.0f;
  }
}
