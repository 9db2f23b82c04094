#include <metal_stdlib>
using namespace metal;

#include "group.h"
#include "parameters.h"
#include "sum_units.h"

// Orders what a group wrote to device memory before what other groups read after the fence.
static inline void device_fence() {
#if __METAL_VERSION__ >= 320
  atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
#endif
}

// Stage E: x = x + V hidden, a tile of 256 channels and a slice of the hidden units a group. Units
// that are zero are not read.
//
// With several slices each leaves its sums in `slices`, and the group that finishes a tile as the
// last, whichever it is, adds them in order: no group waits, and the bits are always the same.
// Slices are atomics because only those are coherent between the groups of a dispatch.
kernel void ffn_value(device const float* hidden [[buffer(0)]],
                      device const uchar* value [[buffer(1)]],
                      device const float* normalized [[buffer(2)]],
                      device float* shift [[buffer(3)]],
                      device atomic_uint* slices [[buffer(4)]],
                      device atomic_uint* counters [[buffer(5)]],
                      device float* x [[buffer(6)]],
                      constant FfnValueParameters& parameters [[buffer(7)]],
                      threadgroup float* scratch [[threadgroup(0)]],
                      uint2 position [[threadgroup_position_in_grid]],
                      uint lane [[thread_index_in_simdgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint tile = position.x;
  const uint slice = position.y;
  const uint first = 256u * tile;                  // channel
  const uint channels = min(256u, kWidth - first);  // the last tile is padded
  const uint padded = padded_width();

  if (slice == 0u) {
    for (uint i = self.index; i < channels; i += self.count) {
      shift[first + i] = normalized[first + i];
    }
  }

  // The slice's units, in runs of 32 that are cut evenly for the SIMD groups.
  const uint slice_units = round_up((kFfnWidth + parameters.slices - 1u) / parameters.slices, 256u);
  const uint slice_begin = min(slice * slice_units, kFfnWidth);
  const uint slice_end = min(slice_begin + slice_units, kFfnWidth);
  const uint share = round_up((slice_end - slice_begin + simdgroups - 1u) / simdgroups, 32u);
  const uint begin = min(slice_begin + simdgroup * share, slice_end);
  const uint end = min(begin + share, slice_end);
  const Eight sums =
      sum_units(parameters.type, value, hidden, begin, end, first + 8u * lane, lane);
  threadgroup float4* own = (threadgroup float4*)scratch + 64u * simdgroup + 2u * lane;
  own[0] = sums.low;
  own[1] = sums.high;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (uint i = self.index; i < 256u; i += self.count) {
    float sum = 0.0f;
    for (uint s = 0u; s < simdgroups; ++s) sum += scratch[256u * s + i];
    if (parameters.slices > 1u) {
      device atomic_uint* to = slices + slice * padded + first + i;
      atomic_store_explicit(to, as_type<uint>(sum), memory_order_relaxed);
    } else if (i < channels) {
      x[first + i] += sum;
    }
  }
  if (parameters.slices == 1u || parameters.adds_up == 0u) return;

  device_fence();
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  if (self.index == 0u) {
    const uint arrived = atomic_fetch_add_explicit(counters + tile, 1u, memory_order_relaxed);
    scratch[0] = arrived + 1u == parameters.slices ? 1.0f : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
  if (scratch[0] == 0.0f) return;
  device_fence();
  for (uint i = self.index; i < channels; i += self.count) {
    float sum = x[first + i];
    for (uint s = 0u; s < parameters.slices; ++s) {
      device atomic_uint* from = slices + s * padded + first + i;
      sum += as_type<float>(atomic_load_explicit(from, memory_order_relaxed));
    }
    x[first + i] = sum;
  }
  if (self.index == 0u) atomic_store_explicit(counters + tile, 0u, memory_order_relaxed);
}

// x = x + the sum of the slices, in order: the end of stage E where a group may not read what
// others of its dispatch wrote. 256 channels a group.
kernel void add_slices(device const float* slices [[buffer(0)]],
                       device float* x [[buffer(1)]],
                       constant AddSlicesParameters& parameters [[buffer(2)]],
                       uint position [[threadgroup_position_in_grid]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
  const GroupThread self = group_thread(lane, simdgroup, simdgroups);
  const uint end = min(256u * position + 256u, kWidth);
  for (uint channel = 256u * position + self.index; channel < end; channel += self.count) {
    float sum = x[channel];
    for (uint s = 0u; s < parameters.slices; ++s) sum += slices[s * padded_width() + channel];
    x[channel] = sum;
  }
}
