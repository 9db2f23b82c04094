#include <metal_stdlib>
using namespace metal;

#include "../group.h"
#include "../sum_units.h"
#include "parameters.h"

// y[t] = V x[t] for the ffn value matrix V, stored by hidden unit: units where x is zero are not
// read. A group takes 256 channels of a token; its SIMD groups share the units, and their sums are
// added in order. The grid is ceil(C / 256) by tokens.
kernel void matmul_sparse(device const uchar* weights [[buffer(0)]],
                          device const float* x [[buffer(1)]],
                          device float* y [[buffer(2)]],
                          constant SparseMatmulParameters& parameters [[buffer(3)]],
                          threadgroup float* scratch [[threadgroup(0)]],
                          uint2 position [[threadgroup_position_in_grid]],
                          uint lane [[thread_index_in_simdgroup]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint first = 256u * position.x;  // channel
  const uint units = round_up((kFfnWidth + simdgroups - 1u) / simdgroups, 32u);
  const uint begin = min(units * simdgroup, kFfnWidth);
  const uint end = min(begin + units, kFfnWidth);
  const Eight sum = sum_units(parameters.type, weights, x + ulong(position.y) * kFfnWidth, begin,
                              end, first + 8u * lane, lane);
  threadgroup float4* own = (threadgroup float4*)(scratch + 256u * simdgroup + 8u * lane);
  own[0] = sum.low;
  own[1] = sum.high;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint channels = min(256u, kWidth - first);
  for (uint i = self.index; i < channels; i += self.count) {
    float total = 0.0f;
    for (uint s = 0u; s < simdgroups; ++s) total += scratch[256u * s + i];
    y[ulong(position.y) * kWidth + first + i] = total;
  }
}
