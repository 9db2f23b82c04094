#include <metal_stdlib>
using namespace metal;

#include "../group.h"
#include "parameters.h"

// Normalisations in place. A weight and a bias are a mul and an add of their own.

// Each row: x = (x - mean) / sqrt(variance + epsilon), the variance being the biased one. A thread
// group a row. The variance is summed after the mean is known: the one-pass formula loses all
// digits when the mean is large.
kernel void layer_norm(device float* x [[buffer(0)]],
                       constant GroupsParameters& parameters [[buffer(1)]],
                       uint row [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partials[32];
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint size = parameters.size;
  device float* values = x + ulong(row) * size;
  float sum = 0.0f;
  for (uint i = self.index; i < size; i += self.count) sum += values[i];
  const float mean = group_sum(sum, partials, self) / float(size);
  float squares = 0.0f;
  for (uint i = self.index; i < size; i += self.count) {
    squares += (values[i] - mean) * (values[i] - mean);
  }
  const float variance = group_sum(squares, partials, self) / float(size);
  const float scale = 1.0f / precise::sqrt(variance + parameters.epsilon);
  for (uint i = self.index; i < size; i += self.count) values[i] = (values[i] - mean) * scale;
}

// The same for each head. A SIMD group a head.
kernel void group_norm(device float* x [[buffer(0)]],
                       constant GroupsParameters& parameters [[buffer(1)]],
                       uint group [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint head = group * simdgroups + simdgroup;
  if (head >= parameters.groups) return;
  const uint size = parameters.size;
  device float* values = x + ulong(head) * size;
  float sum = 0.0f;
  for (uint i = lane; i < size; i += 32) sum += values[i];
  const float mean = simd_sum(sum) / float(size);
  float squares = 0.0f;
  for (uint i = lane; i < size; i += 32) squares += (values[i] - mean) * (values[i] - mean);
  const float variance = simd_sum(squares) / float(size);
  const float scale = 1.0f / precise::sqrt(variance + parameters.epsilon);
  for (uint i = lane; i < size; i += 32) values[i] = (values[i] - mean) * scale;
}

// Each head: x = x / max(length, epsilon). A SIMD group a head.
kernel void l2_norm(device float* x [[buffer(0)]],
                    constant GroupsParameters& parameters [[buffer(1)]],
                    uint group [[threadgroup_position_in_grid]],
                    uint lane [[thread_index_in_simdgroup]],
                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                    uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint head = group * simdgroups + simdgroup;
  if (head >= parameters.groups) return;
  const uint size = parameters.size;
  device float* values = x + ulong(head) * size;
  float squares = 0.0f;
  for (uint i = lane; i < size; i += 32) squares += values[i] * values[i];
  const float scale = 1.0f / max(precise::sqrt(simd_sum(squares)), parameters.epsilon);
  for (uint i = lane; i < size; i += 32) values[i] *= scale;
}

// As group_sum: the largest value of all threads.
static inline float group_max(float value, threadgroup float* partials, GroupThread self) {
  const float largest = simd_max(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (self.lane == 0u) partials[self.simdgroup] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float total = partials[0];
  for (uint i = 1u; i < self.simdgroups; ++i) total = max(total, partials[i]);
  return total;
}

// Each row: x = exp(x - largest) / sum. A thread group a row.
kernel void softmax(device float* x [[buffer(0)]],
                    constant GroupsParameters& parameters [[buffer(1)]],
                    uint row [[threadgroup_position_in_grid]],
                    uint lane [[thread_index_in_simdgroup]],
                    uint simdgroup [[simdgroup_index_in_threadgroup]],
                    uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float partials[32];
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint size = parameters.size;
  device float* values = x + ulong(row) * size;
  float own = -FLT_MAX;
  for (uint i = self.index; i < size; i += self.count) own = max(own, values[i]);
  const float largest = group_max(own, partials, self);
  float sum = 0.0f;
  for (uint i = self.index; i < size; i += self.count) {
    values[i] = precise::exp(values[i] - largest);
    sum += values[i];
  }
  const float scale = 1.0f / group_sum(sum, partials, self);
  for (uint i = self.index; i < size; i += self.count) values[i] *= scale;
}
