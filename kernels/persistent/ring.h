#pragma once

#include "../model.h"
#include "token_parameters.h"

// The stream of weights. Which weights a warp multiplies, and in which order, is known before the
// token begins: so every warp copies its own next pieces into a ring of slots in thread-group
// memory, as far ahead as there are slots, across the barriers between stages. While blocks wait for
// each other, memory goes on working.

constant uint kRingAhead [[function_constant(GANDER_RING_AHEAD)]];

static inline uint first_item(threadgroup const Segment* segment, uint warp) {
  return (warp + GANDER_TOKEN_WARPS - segment->first_warp) % GANDER_TOKEN_WARPS;
}

struct Ring {
  device const uchar* weights;
  threadgroup const Segment* segments;  // of the block
  threadgroup uchar* slots;             // of the warp
  threadgroup ulong* done;              // of each slot: begin_piece
  uint slot_bytes;
  uint warp, lane;
  uint count;                 // of segments
  uint segment, item, begin;  // the next piece to copy; `begin` is in bytes of the item
  uint slot;                  // the oldest piece; as many slots as kRingAhead + 1
  uint turn;                  // times that all slots have been used
};

// From an item on, or a later one: the next that is this warp's.
static inline void settle(thread Ring& ring) {
  while (ring.segment < ring.count && ring.item >= ring.segments[ring.segment].items) {
    ++ring.segment;
    if (ring.segment < ring.count) ring.item = first_item(ring.segments + ring.segment, ring.warp);
  }
}

// Begins to copy the next piece to a slot, if there is one.
static inline void fetch(thread Ring& ring, uint slot) {
  device const uchar* from = ring.weights;
  uint bytes = 0u;
  if (ring.segment < ring.count) {
    threadgroup const Segment* segment = ring.segments + ring.segment;
    from += 16ul * segment->offset + ulong(ring.item) * segment->item_bytes + ring.begin;
    bytes = min(segment->piece_bytes, segment->item_bytes - ring.begin);
  }
  begin_piece(ring.slots + slot * ring.slot_bytes, from, bytes, ring.done + slot, ring.lane);
  ring.begin += bytes;
  if (bytes != 0u && ring.begin == ring.segments[ring.segment].item_bytes) {
    ring.begin = 0u;
    ring.item += GANDER_TOKEN_WARPS;
    settle(ring);
  }
}

static inline void start(thread Ring& ring) {
  ring.segment = 0u;
  ring.begin = 0u;
  ring.slot = 0u;
  ring.turn = 0u;
  ring.item = ring.count > 0u ? first_item(ring.segments, ring.warp) : 0u;
  settle(ring);
  for (uint slot = 0u; slot <= kRingAhead; ++slot) fetch(ring, slot);
}

// The oldest piece, when it is there.
static inline threadgroup const uchar* take(thread Ring& ring) {
  wait_for_piece<GANDER_RING_AHEAD>(ring.done + ring.slot, ring.turn, kRingAhead);
  return ring.slots + ring.slot * ring.slot_bytes;
}

// The oldest piece has been read: its slot takes the next one.
static inline void release(thread Ring& ring) {
  simdgroup_barrier(mem_flags::mem_threadgroup);
  fetch(ring, ring.slot);
  ring.turn += ring.slot == kRingAhead ? 1u : 0u;
  ring.slot = ring.slot == kRingAhead ? 0u : ring.slot + 1u;
}
