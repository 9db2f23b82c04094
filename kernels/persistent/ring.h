#pragma once

#include "../model.h"
#include "token_parameters.h"

// The stream of weights. Which weights a warp multiplies, and in which order, is known before the
// token begins: so every warp copies its own next pieces into a ring of slots in thread-group
// memory, as far ahead as there are slots, across the barriers between stages. While blocks wait for
// each other, memory goes on working.

constant uint kRingAhead [[function_constant(GANDER_RING_AHEAD)]];

static inline uint first_item(Segment segment, uint warp) {
  return (warp + GANDER_TOKEN_WARPS - segment.first_warp) % GANDER_TOKEN_WARPS;
}

struct Ring {
  device const uchar* weights;
  device const Piece* pieces;  // of the warp
  uint count;                  // of pieces
  threadgroup uchar* slots;    // of the warp
  threadgroup ulong* done;     // of each slot: begin_piece
  uint slot_bytes;
  uint lane;
  uint next;      // piece to copy
  Piece near;     // piece next / 32 * 32 + lane
  Piece far;      // 32 later: on its way while the near ones are used
  uint slot;      // the oldest piece; as many slots as kRingAhead + 1
  uint turn;      // times that all slots have been used
};

static inline Piece load_piece(Ring ring, uint index) {
  Piece none;
  none.offset = 0u;
  none.bytes = 0u;
  return index < ring.count ? ring.pieces[index] : none;
}

// Begins to copy the next piece to a slot, if there is one.
static inline void fetch(thread Ring& ring, uint slot) {
  const ushort at = ushort(ring.next % 32u);
  const uint offset = simd_shuffle(ring.near.offset, at);
  const uint bytes = simd_shuffle(ring.near.bytes, at);
  begin_piece(ring.slots + slot * ring.slot_bytes, ring.weights + 16ul * offset, bytes,
              ring.done + slot, ring.lane);
  ++ring.next;
  if (ring.next % 32u == 0u) {
    ring.near = ring.far;
    ring.far = load_piece(ring, ring.next + 32u + ring.lane);
  }
}

static inline void start(thread Ring& ring) {
  ring.next = 0u;
  ring.slot = 0u;
  ring.turn = 0u;
  ring.near = load_piece(ring, ring.lane);
  ring.far = load_piece(ring, 32u + ring.lane);
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
