// Kernels that show what the emulated GPU does: right ones, and ones with a mistake each.
#include <metal_stdlib>
#include "machine.h"
using namespace metal;

constant uint scale [[function_constant(GANDER_TEST_SCALE)]];
constant float bias [[function_constant(GANDER_TEST_BIAS)]];

static float group_sum(float value, threadgroup float* sums, uint lane, uint simd, uint simds) {
  value = simd_sum(value);
  if (lane == 0) sums[simd] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(lane < simds ? sums[lane] : 0.0f);
}

// out[group] = scale * the sum of the group's part of `in`, + bias
kernel void test_group_sum(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                           constant TestParameters& parameters [[buffer(2)]],
                           threadgroup float* sums [[threadgroup(0)]],
                           uint group [[threadgroup_position_in_grid]],
                           uint thread_index [[thread_index_in_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]],
                           uint simd [[simdgroup_index_in_threadgroup]],
                           uint simds [[simdgroups_per_threadgroup]]) {
  float value = 0.0f;
  for (uint i = thread_index; i < parameters.per_group; i += simds * 32) {
    value += in[group * parameters.per_group + i];
  }
  value = group_sum(value, sums, lane, simd, simds);
  if (thread_index == 0) out[group] = scale * value + bias;
}

// Reads what the neighbour wrote without waiting for it.
kernel void test_missing_barrier(device float* out [[buffer(0)]],
                                 uint thread_index [[thread_index_in_threadgroup]],
                                 uint threads [[threads_per_threadgroup]]) {
  threadgroup float values[64];
  values[thread_index] = float(thread_index);
  out[thread_index] = values[(thread_index + 1) % threads];
}

// The same, right.
kernel void test_barrier(device float* out [[buffer(0)]],
                         uint thread_index [[thread_index_in_threadgroup]],
                         uint threads [[threads_per_threadgroup]]) {
  threadgroup float values[64];
  values[thread_index] = float(thread_index);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[thread_index] = values[(thread_index + 1) % threads];
}

// Two barriers, each for half of the threads.
kernel void test_divergent_barriers(device float* out [[buffer(0)]],
                                    uint simd [[simdgroup_index_in_threadgroup]]) {
  if (simd == 0) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  } else {
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  out[0] = 1.0f;
}

// A barrier that the second SIMD group never reaches.
kernel void test_left_barrier(device float* out [[buffer(0)]],
                              uint simd [[simdgroup_index_in_threadgroup]]) {
  if (simd == 1) return;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[0] = 1.0f;
}

// Half of the lanes add up, the other half look for the largest.
kernel void test_divergent_lanes(device float* out [[buffer(0)]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  float value;
  if (lane < 16) {
    value = simd_sum(1.0f);
  } else {
    value = simd_max(1.0f);
  }
  out[lane] = value;
}

// Writes `past` elements after the first `threads`, into what the host bound.
kernel void test_write(device float* out [[buffer(0)]],
                       constant TestParameters& parameters [[buffer(1)]],
                       threadgroup float* scratch [[threadgroup(0)]],
                       uint thread_index [[thread_index_in_threadgroup]]) {
  scratch[thread_index + parameters.past_scratch] = 1.0f;
  out[thread_index + parameters.past_buffer] = scratch[thread_index + parameters.past_scratch];
}

// All threads of all groups write the same word: a race unless it is atomic.
kernel void test_race(device uint* plain [[buffer(0)]], device atomic_uint* counter [[buffer(1)]],
                      constant TestParameters& parameters [[buffer(2)]],
                      uint group [[threadgroup_position_in_grid]],
                      uint thread_index [[thread_index_in_threadgroup]]) {
  atomic_fetch_add_explicit(counter, 1u, memory_order_relaxed);
  if (parameters.race_of_threads != 0 && group == 0) plain[0] = thread_index;
  if (parameters.race_of_groups != 0 && thread_index == 0) plain[1] = group;
}

kernel void test_number(device float* out [[buffer(0)]],
                        constant TestParameters& parameters [[buffer(1)]],
                        uint thread_index [[thread_index_in_threadgroup]]) {
  if (thread_index == 0) out[0] = float(parameters.per_group);
}
