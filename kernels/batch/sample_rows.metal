#include <metal_stdlib>
using namespace metal;

#include "../sample_token.h"
#include "parameters.h"

// Chooses tokens of a step's rows that are to be sampled, in place of the largest logit's: a row a
// group. `sampled` has the slot of the row's sequence, whose sampler it is.
kernel void batch_sample(device float* logits [[buffer(0)]],
                         device const uint* counts [[buffer(1)]],
                         device const uint* sampled [[buffer(2)]],
                         device const SampleSettings* settings [[buffer(3)]],
                         device const LogitBias* biases [[buffer(4)]],
                         device SampleState* states [[buffer(5)]],
                         device float* occurrences [[buffer(6)]],
                         device uint* seen [[buffer(7)]],
                         device uint* best [[buffer(8)]],
                         uint row [[threadgroup_position_in_grid]],
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
  if (row >= counts[GANDER_COUNT_LOGITS]) return;
  const uint slot = sampled[row];
  if (slot == GANDER_NOT_SAMPLED) return;
  const SamplerMemory memory = {settings + slot, biases + ulong(slot) * GANDER_MAX_BIASES,
                                states + slot, occurrences + ulong(slot) * kVocabSize,
                                seen + ulong(slot) * kVocabSize};
  device float* own = logits + ulong(row) * kVocabSize;
  const uint token = sample_token(own, (device const uint2*)own, memory, work, self);
  if (self.index == 0u) best[row] = token;
}
