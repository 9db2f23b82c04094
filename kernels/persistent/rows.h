#pragma once

#include "../activations.h"
#include "../maxima.h"
#include "blocks.h"
#include "ring.h"

// Rows of the stream times the vector, and what becomes of the products.

// Where products go.
struct Results {
  device float* x;
  device long* added;  // to x, in units of kAddedUnit: see value.h
  device float* projected;
  device float* low_rank;
  device float* hidden;
  device float* logits;
  bool adds;  // `added` has something to add: not before layer 1
};

// Sums that many blocks add to, in an order that changes, are integers: their bits do not.
constant float kAddedUnit = 2.3283064365386963e-10f;  // 2^-32

static inline float added_to(device const long* added, uint channel) {
  return float(added[channel]) * kAddedUnit;
}

// Only the row's own lane calls it. `before` is x of the row, for the output matrix.
static inline void store_product(Results results, uint role, uint row, float sum, float before,
                                 thread uint2& largest) {
  switch (role) {
    case GANDER_ROLE_RECEPTANCE:
      results.projected[row] = sum;
      break;
    case GANDER_ROLE_KEY:
      results.projected[kWidth + row] = sum;
      break;
    case GANDER_ROLE_VALUE:
      results.projected[2u * kWidth + row] = sum;
      break;
    case GANDER_ROLE_W1:
      results.low_rank[row] = precise::tanh(sum);
      break;
    case GANDER_ROLE_A1:
      results.low_rank[kRankW + row] = sum;
      break;
    case GANDER_ROLE_V1:
      results.low_rank[kRankW + kRankA + row] = sum;
      break;
    case GANDER_ROLE_G1:
      results.low_rank[kRankW + kRankA + kRankV + row] = sigmoid(sum);
      break;
    case GANDER_ROLE_OUTPUT:
      results.x[row] = before + sum;
      results.added[row] = 0l;
      break;
    case GANDER_ROLE_FFN_KEY:
      results.hidden[row] = squared_relu(sum);
      break;
    default:
      results.logits[row] = sum;
      largest = larger(largest, uint2(ordered_bits(sum), row));
  }
}

// The warp's items of the segment, a row for each `Lanes` of its lanes.
template <typename Block, uint Lanes>
static inline void multiply_items(thread Ring& ring, uint warp, Segment segment, SharedVector x,
                                  Results results, thread uint2& largest) {
  constexpr uint kStep = Lanes / uint(Block::kLanes);  // blocks that the lanes take at a time
  const uint self = fresh(ring.lane);
  const uint lane = self % Lanes;
  const uint part = lane % uint(Block::kLanes);
  const uint first = lane / uint(Block::kLanes);
  const uint row_in_item = self / Lanes;
  const uint row_blocks = segment.row_blocks;
  const uint piece_blocks = segment.piece_blocks;
  const uint role = segment.role;
  for (uint item = first_item(segment, warp); item < segment.items; item += GANDER_TOKEN_WARPS) {
    const uint row = segment.first_row + item * (32u / Lanes) + row_in_item;
    const bool stores = lane == 0u;
    float before = 0.0f;
    if (role == GANDER_ROLE_OUTPUT && stores) {
      before = results.x[row];
      if (results.adds) before += added_to(results.added, row);
    }
    float sum = 0.0f;
    float other = 0.0f;
    for (uint begin = 0u; begin < row_blocks; begin += piece_blocks) {
      const uint count = min(piece_blocks, row_blocks - begin);
      threadgroup const uchar* blocks = take(ring) + row_in_item * row_blocks * uint(Block::kBytes);
      uint block = first;
      for (; block + kStep < count; block += 2u * kStep) {
        sum += Block::multiply(blocks + block * uint(Block::kBytes), part, x, begin + block);
        other += Block::multiply(blocks + (block + kStep) * uint(Block::kBytes), part, x,
                                 begin + block + kStep);
      }
      if (block < count) {
        sum += Block::multiply(blocks + block * uint(Block::kBytes), part, x, begin + block);
      }
      release(ring);
    }
    sum += other;
#pragma unroll
    for (uint distance = Lanes / 2u; distance > 0u; distance /= 2u) {
      sum += simd_shuffle_xor(sum, ushort(distance));
    }
    if (stores) store_product(results, role, row, sum, before, largest);
  }
}

template <typename Block>
static inline void multiply_rows(thread Ring& ring, uint warp, Segment segment, SharedVector x,
                                 Results results, thread uint2& largest) {
  if (segment.row_shift == 0u) {
    multiply_items<Block, 32u>(ring, warp, segment, x, results, largest);
  } else if constexpr (uint(Block::kLanes) <= 16u) {
    if (segment.row_shift == 1u) {
      multiply_items<Block, 16u>(ring, warp, segment, x, results, largest);
    } else if constexpr (uint(Block::kLanes) <= 8u) {
      multiply_items<Block, 8u>(ring, warp, segment, x, results, largest);
    }
  }
}

static inline bool is_quantised(uint type) {
  return type >= GANDER_Q8_0;
}

static inline void multiply_segment(thread Ring& ring, uint warp, Segment segment, SharedVector x,
                                    Results results, thread uint2& largest) {
  const uint type = segment.type;
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    multiply_rows<BlockF32>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_F16) && type == GANDER_F16) {
    multiply_rows<BlockF16>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    multiply_rows<BlockBF16>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    multiply_rows<BlockQ8_0>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    multiply_rows<BlockQ4_0>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    multiply_rows<BlockQ4_K>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    multiply_rows<BlockQ5_K>(ring, warp, segment, x, results, largest);
  } else if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    multiply_rows<BlockQ6_K>(ring, warp, segment, x, results, largest);
  }
}
