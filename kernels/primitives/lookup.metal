#include <metal_stdlib>
using namespace metal;

#include "../dot_rows.h"
#include "parameters.h"

// x = the row of the matrix that `token` names. A thread a column.
kernel void lookup(device const uint* token [[buffer(0)]],
                   device const uchar* weights [[buffer(1)]],
                   device float* x [[buffer(2)]],
                   constant LookupParameters& parameters [[buffer(3)]],
                   uint column [[thread_position_in_grid]]) {
  if (column >= parameters.columns) return;
  const MatrixView matrix = matrix_view(weights, parameters.type, *token + 1u, parameters.columns);
  x[column] = matrix_value(matrix, *token, column);
}
