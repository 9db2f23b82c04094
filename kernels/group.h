#pragma once

#include "model.h"

// Where a thread is in its group.
struct GroupThread {
  uint index, count;  // of threads
  uint lane;          // in its SIMD group
  uint simdgroup, simdgroups;
};

static inline GroupThread group_thread(uint lane, uint simdgroup, uint simdgroups) {
  GroupThread self;
  self.index = 32u * simdgroup + lane;
  self.count = 32u * simdgroups;
  self.lane = lane;
  self.simdgroup = simdgroup;
  self.simdgroups = simdgroups;
  return self;
}

// The sum over all threads, given to all of them; over SIMD groups in index order. `partials` has
// a float for each SIMD group.
static inline float group_sum(float value, threadgroup float* partials, GroupThread self) {
  const float sum = simd_sum(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums of before have been read
  if (self.lane == 0u) partials[self.simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = 0.0f;
  for (uint i = 0u; i < self.simdgroups; ++i) total += partials[i];
  return total;
}
