#include <metal_stdlib>
using namespace metal;

#include "parameters.h"

// What reading memory costs when nothing else is done with it: sums, modulo 2^32, of the words of
// each thread group's piece, one a SIMD group. A piece has `vectors` times 16 bytes, a multiple of
// four for each thread, which has four loads under way.
kernel void sum_words(device const uint4* words [[buffer(0)]],
                      device uint* sums [[buffer(1)]],
                      constant SumWordsParameters& parameters [[buffer(2)]],
                      uint group [[threadgroup_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint threads = 32u * simdgroups;
  device const uint4* piece = words + ulong(group) * parameters.vectors;
  uint4 sum = uint4(0u);
  for (uint i = 32u * simdgroup + lane; i < parameters.vectors; i += 4u * threads) {
    const uint4 a = piece[i];
    const uint4 b = piece[i + threads];
    const uint4 c = piece[i + 2u * threads];
    const uint4 d = piece[i + 3u * threads];
    sum += (a + b) + (c + d);
  }
  const uint total = simd_sum((sum.x + sum.y) + (sum.z + sum.w));
  if (lane == 0u) sums[group * simdgroups + simdgroup] = total;
}
