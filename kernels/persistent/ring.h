#pragma once

#include "../model.h"
#include "token_parameters.h"

// The stream of weights. Which weights a warp multiplies, and in which order, is known before the
// token begins: so every warp copies its own next pieces into a ring of slots in thread-group
// memory, as far ahead as there are slots, across the barriers between stages. While blocks wait
// for each other, memory goes on working. Beginning a copy takes a warp as long as multiplying a
// tile, so none does while other blocks wait for its products: a stage's last piece is replaced
// when the next stage begins to wait.

constant uint kRingSlots [[function_constant(GANDER_RING_SLOTS)]];

static inline uint first_item(Segment segment, uint warp) {
  return (warp + GANDER_TOKEN_WARPS - segment.first_warp) % GANDER_TOKEN_WARPS;
}

// A warp's place in the stream. Little of it is kept: registers are what this kernel has least of.
struct Ring {
  device const uchar* weights;
  device const Piece* pieces;       // of all warps
  threadgroup uchar* slots;         // of all warps
  threadgroup ulong* done;          // of all slots: begin_piece
  threadgroup const uint2* shares;  // [warps]: a warp's first piece, and how many it has
  uint slot_bytes;
  uint warp, lane;
  uint next;   // piece to copy
  uint slot;   // the oldest piece; its slot is the next one's
  uint turn;   // times that all slots have been used
  bool owes;   // the oldest piece has been read, and not been replaced
  Piece near;  // piece next / 32 * 32 + lane
  Piece far;   // 32 later: on its way while the near ones are used
};

// Of all warps' slots.
static inline uint own_slot(Ring ring) {
  return ring.warp * kRingSlots + ring.slot;
}

static inline Piece load_piece(Ring ring, uint index) {
  Piece none;
  none.offset = 0u;
  none.bytes = 0u;
  const uint2 share = ring.shares[ring.warp];
  return index < share.y ? ring.pieces[share.x + index] : none;
}

// Begins to copy the next piece, if there is one, to the oldest one's slot.
static inline void fetch(thread Ring& ring) {
  const ushort at = ushort(ring.next % 32u);
  const uint offset = simd_shuffle(ring.near.offset, at);
  const uint bytes = simd_shuffle(ring.near.bytes, at);
  const uint slot = own_slot(ring);
  begin_piece(ring.slots + slot * ring.slot_bytes, ring.weights + 16ul * offset, bytes,
              ring.done + slot, ring.lane);
  ++ring.next;
  if (ring.next % 32u == 0u) {
    ring.near = ring.far;
    ring.far = load_piece(ring, ring.next + 32u + ring.lane);
  }
  const bool wraps = ring.slot + 1u == kRingSlots;
  ring.turn += wraps ? 1u : 0u;
  ring.slot = wraps ? 0u : ring.slot + 1u;
}

static inline void start(thread Ring& ring) {
  ring.next = 0u;
  ring.slot = 0u;
  ring.owes = false;
  ring.near = load_piece(ring, ring.lane);
  ring.far = load_piece(ring, 32u + ring.lane);
  for (uint i = 0u; i < kRingSlots; ++i) fetch(ring);
  ring.turn = 0u;
}

// The oldest piece, when it is there.
static inline threadgroup const uchar* take(thread Ring& ring) {
  const uint slot = own_slot(ring);
  wait_for_piece(ring.done + slot, ring.turn);
  return ring.slots + slot * ring.slot_bytes;
}

// The oldest piece has been read: its slot takes the next one.
static inline void release(thread Ring& ring) {
  simdgroup_barrier(mem_flags::mem_threadgroup);
  fetch(ring);
}

// The same where a stage's last piece was left: before another one is taken.
static inline void release_last(thread Ring& ring) {
  if (!ring.owes) return;
  release(ring);
  ring.owes = false;
}
