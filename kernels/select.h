#pragma once

#include "group.h"
#include "token_weights.h"

// Selections in O(V) by one thread group: the token with which a sum of measures, in the order of
// probability or of ids, reaches a target. Found digit by digit, by histograms whose sums are
// integers, so that neither the number of threads nor their order matters.

constant constexpr uint kBuckets = 256;
constant constexpr uint kCapacity = 3072;  // candidates in thread-group memory; more stay in device memory

struct Workspace {
  threadgroup uint4* keys;
  threadgroup uint4* tokens;  // both kCapacity / 4
  threadgroup atomic_uint* low;
  threadgroup atomic_uint* high;  // both kBuckets: words of 64-bit sums
  threadgroup atomic_uint* gathered;
  threadgroup uint* partials;  // 64
};

// Tokens to choose from: all, in device memory, or some, gathered in thread-group memory in no
// particular order.
struct Candidates {
  device const uint* logits;  // bits
  uint count;
  bool gathered;
};

static inline uint4 candidate_tokens(Candidates all, Workspace work, uint quad) {
  if (!all.gathered) return uint4(4u * quad, 4u * quad + 1u, 4u * quad + 2u, 4u * quad + 3u);
  return work.tokens[quad];
}

// Keys of four candidates, kAbsent after the last.
static inline uint4 candidate_keys(Candidates all, Workspace work, uint quad) {
  if (4u * quad >= all.count) return uint4(kAbsent);
  if (all.gathered) return work.keys[quad];
  uint4 keys = uint4(kAbsent);
  if (4u * quad + 4u <= all.count) {
    const uint4 bits = ((device const uint4*)all.logits)[quad];
    for (uint i = 0u; i < 4u; ++i) keys[i] = logit_key(bits[i]);
  } else {
    for (uint i = 0u; 4u * quad + i < all.count; ++i) keys[i] = logit_key(all.logits[4u * quad + i]);
  }
  return keys;
}

// What sorts candidates into buckets, smaller ones first.
struct DistanceDigit {  // from the largest logit, an eighth of a factor e each: a first, even cut
  TokenWeights weights;
  uint operator()(uint key, uint) const {
    return key == kAbsent ? kBuckets - 1u
                          : min(uint(-8.0f * weights.log_weight(key)), kBuckets - 1u);
  }
};
struct KeyDigit {
  uint shift;
  uint operator()(uint key, uint) const { return (key >> shift) & (kBuckets - 1u); }
};
struct TokenDigit {
  uint shift;
  uint operator()(uint, uint token) const { return (token >> shift) & (kBuckets - 1u); }
};

// The upper bits of a key and of a token, as far as they have been found.
struct Path {
  uint key, key_mask, token, token_mask;
  bool leads_to(uint other_key, uint other_token) const {
    return ((other_key ^ key) & key_mask) == 0u && ((other_token ^ token) & token_mask) == 0u;
  }
};

static inline ulong simd_sum_long(ulong value) {
  // The low 16 bits, 32 times, stay below 2^32.
  const uint low = simd_sum(uint(value) & 0xffffu);
  const uint middle = simd_sum(uint(value >> 16) & 0xffffu);
  const uint upper = simd_sum(uint(value >> 32) & 0xffffu);
  const uint top = simd_sum(uint(value >> 48));
  return ulong(low) + (ulong(middle) << 16) + (ulong(upper) << 32) + (ulong(top) << 48);
}

static inline ulong simd_prefix_sum_long(ulong value, uint lane) {  // inclusive
  for (ushort distance = 1; distance < 32; distance *= 2) {
    const uint low = simd_shuffle_up(uint(value), distance);
    const uint high = simd_shuffle_up(uint(value >> 32), distance);
    if (lane >= uint(distance)) value += (ulong(high) << 32) | ulong(low);
  }
  return value;
}

// A 64-bit sum by 32-bit atomics: who makes the lower word overflow carries.
static inline void add_to_bucket(Workspace work, uint bucket, ulong amount) {
  const uint low = uint(amount);
  uint high = uint(amount >> 32);
  if (low != 0u) {
    const uint before = atomic_fetch_add_explicit(&work.low[bucket], low, memory_order_relaxed);
    if (before > 0xffffffffu - low) ++high;
  }
  if (high != 0u) atomic_fetch_add_explicit(&work.high[bucket], high, memory_order_relaxed);
}

static inline ulong sum_through(Workspace work, uint bucket) {
  return (ulong(atomic_load_explicit(&work.high[bucket], memory_order_relaxed)) << 32) |
         ulong(atomic_load_explicit(&work.low[bucket], memory_order_relaxed));
}

// Sums the measures of the candidates that `path` leads to, by bucket; sum_through() then gives
// those up to and with a bucket, to all threads.
template <typename Digit>
static inline void fill_histogram(Candidates all, TokenWeights weights, Path path, Digit digit,
                                  Workspace work, GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the histogram before has been read
  for (uint i = self.index; i < kBuckets; i += self.count) {
    atomic_store_explicit(&work.low[i], 0u, memory_order_relaxed);
    atomic_store_explicit(&work.high[i], 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint quads = round_up((all.count + 3u) / 4u, self.count);
  for (uint quad = self.index; quad < quads; quad += self.count) {
    const uint4 keys = candidate_keys(all, work, quad);
    const uint4 tokens = 4u * quad < all.count ? candidate_tokens(all, work, quad) : uint4(0u);
    for (uint i = 0u; i < 4u; ++i) {
      ulong amount = 0ul;
      if (path.leads_to(keys[i], tokens[i])) amount = weights.measure(keys[i], tokens[i]);
      // Neighbours by id share a bucket of ids, and in a flat distribution any: one addition then.
      const uint bucket = digit(keys[i], tokens[i]);
      if (simd_all(bucket == simd_broadcast(bucket, 0))) {
        if (simd_all(amount == 0ul)) continue;
        amount = simd_sum_long(amount);
        if (self.lane == 0u) add_to_bucket(work, bucket, amount);
      } else {
        add_to_bucket(work, bucket, amount);
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (self.simdgroup == 0u) {
    const uint first = self.lane * (kBuckets / 32u);
    ulong sum = 0ul;
    for (uint i = 0u; i < kBuckets / 32u; ++i) sum += sum_through(work, first + i);
    ulong before = simd_prefix_sum_long(sum, self.lane) - sum;
    for (uint i = 0u; i < kBuckets / 32u; ++i) {
      before += sum_through(work, first + i);
      atomic_store_explicit(&work.low[first + i], uint(before), memory_order_relaxed);
      atomic_store_explicit(&work.high[first + i], uint(before >> 32), memory_order_relaxed);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

// The first bucket through which the sum is at least `target`, which the sum of all is.
static inline uint bucket_reaching(Workspace work, ulong target) {
  uint low = 0u;
  for (uint half_range = kBuckets / 2u; half_range > 0u; half_range /= 2u) {
    if (sum_through(work, low + half_range - 1u) < target) low += half_range;
  }
  return low;
}

// Takes one more digit: `target` becomes what is to be reached within its bucket.
static inline uint enter_bucket(Workspace work, thread ulong& target) {
  const uint bucket = bucket_reaching(work, target);
  if (bucket > 0u) target -= sum_through(work, bucket - 1u);
  return bucket;
}

// The token, in the order of ids, with which the sum over what `path` leads to reaches
// `target_of(sum of all)`.
template <typename Target>
static inline uint find_token(Candidates all, TokenWeights weights, Path path, Target target_of,
                              Workspace work, GroupThread self) {
  ulong target = 0ul;
  TokenDigit digit;
  digit.shift = kVocabSize > 65536u ? 16u : kVocabSize > 256u ? 8u : 0u;
  while (true) {
    fill_histogram(all, weights, path, digit, work, self);
    if (path.token_mask == 0u) target = target_of(sum_through(work, kBuckets - 1u));
    path.token |= enter_bucket(work, target) << digit.shift;
    path.token_mask |= (kBuckets - 1u) << digit.shift;
    if (digit.shift == 0u) return path.token;
    digit.shift -= 8u;
  }
}

// Brings the candidates of buckets up to `last` into thread-group memory, if there is room.
static inline Candidates gather(Candidates all, TokenWeights weights, DistanceDigit digit,
                                uint last, Workspace work, GroupThread self) {
  if (self.index == 0u) atomic_store_explicit(work.gathered, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint quads = round_up((all.count + 3u) / 4u, self.count);
  for (uint quad = self.index; quad < quads; quad += self.count) {
    const uint4 keys = candidate_keys(all, work, quad);
    bool4 stays = bool4(false);
    uint count = 0u;
    for (uint i = 0u; i < 4u; ++i) {
      stays[i] = digit(keys[i], 0u) <= last && weights.measure(keys[i], 4u * quad + i) != 0ul;
      count += stays[i] ? 1u : 0u;
    }
    const uint before = simd_prefix_exclusive_sum(count);
    uint place = 0u;
    if (self.lane == 31u && before + count > 0u) {
      place = atomic_fetch_add_explicit(work.gathered, before + count, memory_order_relaxed);
    }
    place = simd_broadcast(place, 31) + before;
    for (uint i = 0u; i < 4u; ++i) {
      if (!stays[i]) continue;
      if (place < kCapacity) {
        ((threadgroup uint*)work.keys)[place] = keys[i];
        ((threadgroup uint*)work.tokens)[place] = 4u * quad + i;
      }
      ++place;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint count = atomic_load_explicit(work.gathered, memory_order_relaxed);
  if (count > kCapacity) return all;
  if (self.index < round_up(count, 4u) - count) {
    ((threadgroup uint*)work.keys)[count + self.index] = kAbsent;
  }
  all.count = count;
  all.gathered = true;
  return all;
}

// A target that is known.
struct Exactly {
  ulong target;
  ulong operator()(ulong) const { return target; }
};

// Keeps of what is left, in the order of probability and then of ids, the fewest tokens whose
// measures reach `target_of(sum of all)`. Gathers what is left where it can.
template <typename Target>
static inline void keep_most_probable(thread Candidates& all, thread TokenWeights& weights,
                                      Target target_of, Workspace work, GroupThread self) {
  Path path = {0u, 0u, 0u, 0u};
  DistanceDigit distance;
  distance.weights = weights;
  fill_histogram(all, weights, path, distance, work, self);
  Exactly rest;
  rest.target = target_of(sum_through(work, kBuckets - 1u));
  if (!all.gathered) {
    all = gather(all, weights, distance, bucket_reaching(work, rest.target), work, self);
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    KeyDigit digit;
    digit.shift = uint(shift);
    fill_histogram(all, weights, path, digit, work, self);
    path.key |= enter_bucket(work, rest.target) << digit.shift;
    path.key_mask |= (kBuckets - 1u) << digit.shift;
  }
  weights.last_token = find_token(all, weights, path, rest, work, self);
  weights.last_key = path.key;
}
