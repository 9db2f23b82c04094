#pragma once

// Reductions over a thread group whose result depends on the number of threads only: lanes by the
// SIMD functions, SIMD groups in index order. `partial` has a float for each SIMD group; every
// thread of the group must call, and gets the result. The second barrier lets `partial` be reused.

static inline float group_sum(float value, threadgroup float* partial, uint lane, uint simdgroup,
                              uint simdgroups) {
  const float sum = simd_sum(value);
  if (lane == 0) partial[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = 0.0f;
  for (uint i = 0; i < simdgroups; ++i) total += partial[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return total;
}

static inline float group_max(float value, threadgroup float* partial, uint lane, uint simdgroup,
                              uint simdgroups) {
  const float largest = simd_max(value);
  if (lane == 0) partial[simdgroup] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = partial[0];
  for (uint i = 1; i < simdgroups; ++i) total = max(total, partial[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return total;
}
