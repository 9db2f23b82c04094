#pragma once

#include "rows.h"

// A block of the token kernel: what its threads share, and the stages that multiply rows.

// Numbers that stay from token to token: how many there were, the blocks that have left this one,
// and which stage each block entered last.
#define GANDER_TOKENS 0
#define GANDER_LEFT 1
#define GANDER_ENTERED 2

// Thread-group memory: the ring, then these. Registers are what this kernel has least of: the
// addresses are computed again in every stage.
struct Memory {
  threadgroup uchar* vector;     // or what a stage has instead of it
  threadgroup float2* partials;  // [warps], of LayerNorm
  threadgroup float* sums;       // [warps + GANDER_TOKEN_MAX_ITEMS][16], of tiles
  threadgroup ulong* done;       // [warps][GANDER_TOKEN_MAX_SLOTS], of the ring's slots
  threadgroup uint2* shares;     // [warps], of the ring's pieces
  threadgroup LayerPlan* plans;  // of this layer and the next
  threadgroup uint* tokens;      // [4]: how many there were
  threadgroup Segment* segments;
};

struct Block {
  device const uchar* weights;
  device uint* counters;
  threadgroup uchar* ring;
  uint ring_bytes, vector_bytes;
  uint index, count;  // of the blocks
  uint warp, lane, thread_index;
  uint next, end;  // of its segments: the one to multiply
  Memory memory;
};

static inline Memory memory_of(Block block) {
  Memory memory;
  memory.vector = block.ring + fresh(block.ring_bytes);
  memory.partials = (threadgroup float2*)(memory.vector + block.vector_bytes);
  memory.sums = (threadgroup float*)(memory.partials + GANDER_TOKEN_WARPS);
  memory.done =
      (threadgroup ulong*)(memory.sums + 16u * (GANDER_TOKEN_WARPS + GANDER_TOKEN_MAX_ITEMS));
  memory.shares = (threadgroup uint2*)(memory.done + GANDER_TOKEN_WARPS * GANDER_TOKEN_MAX_SLOTS);
  memory.plans = (threadgroup LayerPlan*)(memory.shares + GANDER_TOKEN_WARPS);
  memory.tokens = (threadgroup uint*)(memory.plans + 2);
  memory.segments = (threadgroup Segment*)(memory.tokens + 4);
  return memory;
}

// Begins a stage: what follows from who the thread is need not outlive it.
static inline Block refreshed(Block block) {
  block.thread_index = fresh(block.thread_index);
  block.warp = block.thread_index / 32u;
  block.lane = block.thread_index % 32u;
  block.memory = memory_of(block);
  return block;
}

static inline device const float* floats_at(Block block, uint offset) {
  return (device const float*)(block.weights + 16ul * offset);
}

static inline bool has_segment(Block block, uint stage) {
  return block.next < block.end && block.memory.segments[block.next].stage == stage;
}

// Row of x_r, x_w, x_k, x_v, x_a, x_g that a matrix of the time mix reads; ffn key has a row alone.
static inline uint mix_of(uint role) {
  return role == GANDER_ROLE_V1 ? 3u : role < GANDER_ROLE_OUTPUT ? role : 0u;
}

static inline Quads mixed(Quads x, Quads shift, Quads amount) {
#pragma unroll
  for (uint i = 0u; i < GANDER_QUADS; ++i) x.at[i] += (shift.at[i] - x.at[i]) * amount.at[i];
  return x;
}

// How a stage mixes LN(x) with that of the token before.
struct Mix {
  Quads shift;   // the vector of the token before
  Quads amount;  // how much of it
};

// `shift` is null for the head, which mixes nothing.
static inline Mix load_mix(Block block, device const float* shift, uint mix) {
  Mix loaded = {};
  if (shift == nullptr) return loaded;
  const uint row = block.next < block.end ? mix_of(block.memory.segments[block.next].role) : 0u;
  loaded.shift = load_quads(shift, block.thread_index);
  loaded.amount = load_quads(floats_at(block, mix) + row * kWidth, block.thread_index);
  return loaded;
}

// Shares what the block's rows of the stage are multiplied by, if it has any.
static inline void share_vector(Block block, uint stage, Quads vector) {
  if (!has_segment(block, stage)) return;
  store_vector(vector, shared_vector(block.memory.vector),
               is_quantised(block.memory.segments[block.next].type), block.thread_index);
}

// The warp's run of the next segment, if there is one and it has tiles.
static inline uint next_run(Block block) {
  return block.next < block.end ? run_of(block.memory.segments + block.next, block.warp) : 0u;
}

// The block's segments of a stage times the shared vector, which a barrier has completed. There is
// more than one only where a matrix has many rows for few blocks. `run` is that of the first.
static inline void multiply_segments(thread Block& block, thread Ring& ring, uint stage, uint run,
                                     Results results, thread uint2& largest) {
  const SharedVector shared = shared_vector(block.memory.vector);
  bool has_more = has_segment(block, stage);
  while (has_more) {
    multiply_segment(ring, block.warp, block.memory.segments[block.next], run, shared,
                     block.memory.sums, results, largest);
    ++block.next;
    has_more = has_segment(block, stage);
    if (!has_more) return;  // the last pieces are replaced later
    release_last(ring);
    run = next_run(block);
    threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums have been read
  }
}

// Stages that read x, as they count up for ever: two in a round, of the time mix and the channel
// mix.
static inline uint reading(uint round, uint which) {
  return 2u * round + which;
}

// The block has read x; all its threads have, a barrier came between.
static inline void enter(Block block, uint round, uint which) {
  if (block.thread_index != 0u) return;
  store_now(block.counters + GANDER_ENTERED + block.index, reading(round, which));
}

// Returns when all blocks have entered the stage; a barrier has to follow. The last warps look: in
// stage E they have less to do than the first.
static inline void wait_for_readers(Block block, uint stage) {
  const uint other = GANDER_TOKEN_THREADS - 1u - block.thread_index;
  device const uint* entered = block.counters + GANDER_ENTERED + other;
  bool waits = false;
  do {
    waits = other < block.count && int(load_now(entered) - stage) < 0;
  } while (try_again(waits));
}

// Vectors of the token that the next one shifts: the last block keeps them for itself until all
// have read those of the token before.
struct Kept {
  device float* own;    // [2][C]: LN(x) of the time mix and of the channel mix
  device float* shift;  // of the stage before, in the state; null in the first stage
};

static inline bool keeps(Block block) {
  return block.index + 1u == block.count;
}

// All have entered the stage after: what it was given as the token before may be replaced.
static inline void keep(Block block, Kept kept, uint which) {
  if (kept.shift == nullptr) return;
  const Quads vector = load_quads(kept.own + which * kWidth, block.thread_index);
  store_quads(vector, kept.shift, block.thread_index);
}

// The block's best token: of its lanes, then of its warps.
static inline void store_maximum(Block block, uint2 largest, device uint2* maxima) {
  for (ushort distance = 16; distance > 0; distance /= 2) {
    largest = larger(largest, simd_shuffle_xor(largest, distance));
  }
  threadgroup uint2* best = (threadgroup uint2*)block.memory.vector;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (block.lane == 0u) best[block.warp] = largest;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (block.thread_index != 0u) return;
  for (uint i = 1u; i < GANDER_TOKEN_WARPS; ++i) largest = larger(largest, best[i]);
  maxima[block.index] = largest;
}
