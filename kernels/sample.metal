#include <metal_stdlib>
using namespace metal;

#include "sample_token.h"

// Chooses the next token of a sequence that generates on the device. One group.
kernel void sample(device float* logits [[buffer(0)]],
                   device const uint2* maxima [[buffer(1)]],
                   device const SampleSettings* settings [[buffer(2)]],
                   device const LogitBias* biases [[buffer(3)]],
                   device SampleState* state [[buffer(4)]],
                   device float* counts [[buffer(5)]],
                   device uint* seen [[buffer(6)]],
                   device uint* next [[buffer(7)]],
                   device uint* ring [[buffer(8)]],
                   uint lane [[thread_index_in_simdgroup]],
                   uint simdgroup [[simdgroup_index_in_threadgroup]],
                   uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup uint4 keys[kCapacity / 4];
  threadgroup uint4 tokens[kCapacity / 4];
  threadgroup atomic_uint low[kBuckets];
  threadgroup atomic_uint high[kBuckets];
  threadgroup atomic_uint gathered[1];
  threadgroup uint partials[64];
  const Workspace work = {keys, tokens, low, high, gathered, partials};
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const SamplerMemory memory = {settings, biases, state, counts, seen};
  const uint token = sample_token(logits, maxima, memory, work, self);
  if (self.index == 0u) {
    next[0] = token;
    ring[state->position & (settings->ring_size - 1u)] = token;
    state->position += 1u;
  }
}
