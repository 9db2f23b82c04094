#include <metal_stdlib>
using namespace metal;

#include "dot_rows.h"
#include "layer_norm.h"
#include "parameters.h"

// x = LN(emb[token]). One group.
kernel void embed(device const uint* token [[buffer(0)]],
                  device const uchar* emb [[buffer(1)]],
                  device const float* norm [[buffer(2)]],
                  device float* x [[buffer(3)]],
                  constant EmbedParameters& parameters [[buffer(4)]],
                  threadgroup float* scratch [[threadgroup(0)]],
                  uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const MatrixView matrix = matrix_view(emb, parameters.type, kVocabSize, kWidth);
  for (uint i = self.index; i < kWidth; i += self.count) {
    scratch[i] = matrix_value(matrix, *token, i);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  normalize_vector(scratch, norm, scratch + round_up(kWidth, 4u), self);
  store_vector(scratch, x, self);
}
