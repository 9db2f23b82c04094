#pragma once

#include "../activations.h"
#include "../maxima.h"
#include "blocks.h"
#include "exchange.h"
#include "ring.h"
#include "tiles.h"

// Rows of the stream times the vector, and what becomes of the products.

// Where products go.
struct Results {
  Residual residual;
  device float* projected;
  device float* low_rank;
  device float* hidden;
  device float* logits;
  uint round;
};

// Only one lane calls it for a row, or for what the block has of it: `tiles` of a row of the output
// matrix, which may be shared by blocks.
static inline void store_product(Results results, uint role, uint row, float sum, uint tiles,
                                 thread uint2& largest) {
  device float* low_rank = results.low_rank;
  switch (role) {
    case GANDER_ROLE_RECEPTANCE:
      hand_over(results.projected + row, sum, results.round);
      break;
    case GANDER_ROLE_KEY:
      hand_over(results.projected + kWidth + row, sum, results.round);
      break;
    case GANDER_ROLE_VALUE:
      hand_over(results.projected + 2u * kWidth + row, sum, results.round);
      break;
    case GANDER_ROLE_W1:
      hand_over(low_rank + row, precise::tanh(sum), results.round);
      break;
    case GANDER_ROLE_A1:
      hand_over(low_rank + kRankW + row, sum, results.round);
      break;
    case GANDER_ROLE_V1:
      hand_over(low_rank + kRankW + kRankA + row, sum, results.round);
      break;
    case GANDER_ROLE_G1:
      hand_over(low_rank + kRankW + kRankA + kRankV + row, sigmoid(sum), results.round);
      break;
    case GANDER_ROLE_OUTPUT:
      add_to_x(results.residual, row, sum, tiles);
      break;
    case GANDER_ROLE_FFN_KEY:
      hand_over(results.hidden + row, squared_relu(sum), results.round);
      break;
    default:
      results.logits[row] = sum;
      largest = larger(largest, uint2(ordered_bits(sum), row));
  }
}

// Float weights: the warp's rows of the segment.
template <typename Block>
static inline void multiply_rows(thread Ring& ring, uint warp, Segment segment, SharedVector x,
                                 Results results, thread uint2& largest) {
  const uint lane = fresh(ring.lane);
  const uint row_blocks = segment.row_blocks;
  const uint piece_blocks = segment.piece_blocks;
  for (uint item = first_item(segment, warp); item < segment.items; item += GANDER_TOKEN_WARPS) {
    const uint row = segment.first_row + item;
    float sum = 0.0f;
    float other = 0.0f;
    for (uint begin = 0u; begin < row_blocks; begin += piece_blocks) {
      const uint count = min(piece_blocks, row_blocks - begin);
      threadgroup const uchar* blocks = take(ring);
      uint block = 0u;
      for (; block + 1u < count; block += 2u) {
        sum += Block::multiply(blocks + block * uint(Block::kBytes), lane, x, begin + block);
        other += Block::multiply(blocks + (block + 1u) * uint(Block::kBytes), lane, x,
                                 begin + block + 1u);
      }
      if (block < count) {
        sum += Block::multiply(blocks + block * uint(Block::kBytes), lane, x, begin + block);
      }
      ring.owes = begin + piece_blocks >= row_blocks && item + GANDER_TOKEN_WARPS >= segment.items;
      if (!ring.owes) release(ring);
    }
    sum = simd_sum(sum + other);
    if (lane == 0u) store_product(results, segment.role, row, sum, row_blocks, largest);
  }
}

// A segment's tiles in runs, one for each warp: the first warps have one tile more where they
// cannot all have as many, so that a multiprocessor's parts have equal work.
struct Runs {
  uint length, longer;  // of a run, and runs with one more
};

static inline Runs runs_of(uint tiles) {
  Runs runs;
  runs.length = tiles / GANDER_TOKEN_WARPS;
  runs.longer = tiles % GANDER_TOKEN_WARPS;
  return runs;
}

static inline uint first_tile(Runs runs, uint warp) {
  return runs.length * warp + min(warp, runs.longer);
}

// n / d, for numbers below 2^16: half more keeps the quotient away from where it is cut off.
static inline uint quotient(uint n, uint d) {
  return uint((float(n) + 0.5f) * reciprocal(float(d)));
}

// A warp's run, in one register: it is found while the vector is waited for. From bit 0, 8 and 16
// on: the item (a row of tiles) and the tile of it that the run begins with, and how many it has.
static inline uint run_of(threadgroup const Segment* segment, uint warp) {
  const Runs runs = runs_of(segment->tiles);
  const uint begin = first_tile(runs, warp);
  const uint tile = segment->first_tile + begin;
  const uint item = quotient(tile, segment->row_blocks);
  return item | (tile - item * segment->row_blocks) << 8u |
         (first_tile(runs, warp + 1u) - begin) << 16u;
}

// Quantised weights: the warp's tiles of the segment. Where its run, or a row of tiles (an item),
// ends, the sums go to `sums`: what warp w has of item i is number w + i, no two are the same.
template <typename Tile>
static inline void multiply_tiles(thread Ring& ring, uint warp, Segment segment, uint run,
                                  SharedVector x, threadgroup float* sums) {
  const uint lane = fresh(ring.lane);
  const uint row_blocks = segment.row_blocks;
  uint item = run & 255u;
  uint number = run >> 8u & 255u;
  float2 sum = float2(0.0f);
  for (uint left = run >> 16u; left > 0u; --left) {
    sum += Tile::multiply(take(ring), lane, x, number);
    ring.owes = left == 1u;
    if (!ring.owes) release(ring);
    ++number;
    if (number < row_blocks && left > 1u) continue;
    sum.x += simd_shuffle_xor(sum.x, 1);
    sum.y += simd_shuffle_xor(sum.y, 1);
    sum.x += simd_shuffle_xor(sum.x, 2);
    sum.y += simd_shuffle_xor(sum.y, 2);
    if (lane % 4u == 0u) {
      threadgroup float* rows = sums + 16u * (warp + item) + lane / 4u;
      rows[0] = sum.x;
      rows[8] = sum.y;
    }
    sum = float2(0.0f);
    number = 0u;
    ++item;
  }
}

// Adds up what warps have of the segment's rows. Four lanes share a row, so all of a SIMD group are
// in one item.
static inline void store_tiles(Segment segment, threadgroup const float* sums, uint index,
                               Results results, thread uint2& largest) {
  const Runs runs = runs_of(segment.tiles);
  const uint lane = index % 32u;
  const uint run_begin = first_tile(runs, lane);  // of warp `lane`
  const uint run_end = first_tile(runs, lane + 1u);
  for (uint i = index / 4u; i < round_up(segment.rows, 8u); i += GANDER_TOKEN_THREADS / 4u) {
    const uint item = i / 16u;
    const uint end = min((item + 1u) * segment.row_blocks - segment.first_tile, segment.tiles);
    const uint begin = item > 0u ? item * segment.row_blocks - segment.first_tile : 0u;
    const bool has_some =
        lane < GANDER_TOKEN_WARPS && run_begin < end && max(run_begin, begin) < run_end;
    const uint warps = uint(simd_vote::vote_t(simd_ballot(has_some)));  // neighbours
    const uint first = uint(ctz(warps));
    const uint last = first + uint(popcount(warps));
    float sum = 0.0f;
    for (uint warp = first + lane % 4u; warp < last; warp += 4u) {
      sum += sums[16u * (warp + item) + i % 16u];
    }
    sum += simd_shuffle_xor(sum, 1);
    sum += simd_shuffle_xor(sum, 2);
    if (lane % 4u != 0u || i >= segment.rows) continue;
    store_product(results, segment.role, segment.first_row + i, sum, end - begin, largest);
  }
}

static inline bool is_quantised(uint type) {
  return type >= GANDER_Q8_0;
}

static inline void multiply_segment(thread Ring& ring, uint warp, Segment segment, uint run,
                                    SharedVector x, threadgroup float* sums, Results results,
                                    thread uint2& largest) {
  const uint type = segment.type;
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    multiply_rows<BlockF32>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_F16) && type == GANDER_F16) {
    multiply_rows<BlockF16>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    multiply_rows<BlockBF16>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    multiply_tiles<TileQ8_0>(ring, warp, segment, run, x, sums);
  } else if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    multiply_tiles<TileQ4_0>(ring, warp, segment, run, x, sums);
  } else if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    multiply_tiles<TileQ4_K>(ring, warp, segment, run, x, sums);
  } else if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    multiply_tiles<TileQ5_K>(ring, warp, segment, run, x, sums);
  } else if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    multiply_tiles<TileQ6_K>(ring, warp, segment, run, x, sums);
  }
  if (!is_quantised(type)) return;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  store_tiles(segment, sums, 32u * warp + ring.lane, results, largest);
}
