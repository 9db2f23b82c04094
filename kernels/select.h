#pragma once

#include "group.h"
#include "token_weights.h"

// Selections in O(V) by one thread group: the token with which a sum of measures, in the order of
// probability or of ids, reaches a target. Found digit by digit, by histograms whose sums are
// integers, so that neither the number of threads nor their order matters.

constant constexpr uint kBuckets = 256;
constant constexpr uint kCapacity = 3072;  // candidates in thread-group memory
// Nearly always those above e^-8 of the largest fit there, and are what a selection leaves.
constant constexpr uint kNearDistance = 8 * 2048;
constant constexpr uint kFew = 256;  // candidates that a SIMD group keeps in registers

struct Workspace {
  threadgroup uint4* keys;
  threadgroup uint4* tokens;  // both kCapacity / 4
  threadgroup atomic_uint* low;
  threadgroup atomic_uint* high;  // both kBuckets: words of 64-bit sums
  threadgroup atomic_uint* gathered;
  threadgroup uint* partials;  // 64
};

// Tokens to choose from: all, in device memory, or some, gathered in thread-group memory in no
// particular order. In fours.
struct Candidates {
  device const uint* logits;  // bits
  uint count;
  bool gathered;

  uint quads() const { return (count + 3u) / 4u; }
};

static inline uint4 candidate_tokens(Candidates all, Workspace work, uint quad) {
  if (quad >= all.quads()) return uint4(0u);
  if (all.gathered) return work.tokens[quad];
  return uint4(4u * quad, 4u * quad + 1u, 4u * quad + 2u, 4u * quad + 3u);
}

// kAbsent after the last.
static inline uint4 candidate_keys(Candidates all, Workspace work, uint quad) {
  if (quad >= all.quads()) return uint4(kAbsent);
  if (all.gathered) return work.keys[quad];
  if (kVocabSize % 4u == 0u && 4u * quad + 4u <= all.count) {  // else a row may begin between
    const uint4 bits = ((device const uint4*)all.logits)[quad];
    return uint4(logit_key(bits.x), logit_key(bits.y), logit_key(bits.z), logit_key(bits.w));
  }
  uint4 keys = uint4(kAbsent);
  for (uint i = 0u; i < 4u && 4u * quad + i < all.count; ++i) {
    keys[i] = logit_key(all.logits[4u * quad + i]);
  }
  return keys;
}

// Levels of a search, 8 bits each: of the distance from the largest logit, which spreads tokens
// evenly, then of the key, then of the id.
constant constexpr uint kDistanceLevel = 0;
constant constexpr uint kKeyLevel = 2;
constant constexpr uint kTokenLevel = 6;
constant constexpr uint kLevels = 9;

static inline uint level_shift(uint level) {
  const uint end = level < kKeyLevel ? kKeyLevel : level < kTokenLevel ? kTokenLevel : kLevels;
  return 8u * (end - 1u - level);
}

// What candidates are sorted by, smaller ones first.
struct Place {
  uint distance;  // 16 bits
  uint key, token;

  uint digit(uint level) const {
    const uint value = level < kKeyLevel ? distance : level < kTokenLevel ? key : token;
    return (value >> level_shift(level)) & (kBuckets - 1u);
  }
  void set(uint level, uint digit) {
    const uint bits = digit << level_shift(level);
    if (level < kKeyLevel) {
      distance |= bits;
    } else if (level < kTokenLevel) {
      key |= bits;
    } else {
      token |= bits;
    }
  }
};

// The digits that have been found.
struct Path {
  Place value, mask;

  void append(uint level, uint digit) {
    value.set(level, digit);
    mask.set(level, kBuckets - 1u);
  }
  bool leads_to(Place place) const {
    return ((place.distance ^ value.distance) & mask.distance) == 0u &&
           ((place.key ^ value.key) & mask.key) == 0u &&
           ((place.token ^ value.token) & mask.token) == 0u;
  }
};

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

// The sum over a SIMD group of measures of up to four tokens: 47 bits, in halves that do not
// overflow.
static inline ulong simd_sum_of_measures(ulong measure) {
  const uint low = simd_sum(uint(measure) & 0xffffffu);
  const uint high = simd_sum(uint(measure >> 24));
  return ulong(low) + (ulong(high) << 24);
}

static inline ulong simd_prefix_sum_long(ulong value, uint lane) {  // inclusive
  for (ushort distance = 1; distance < 32; distance *= 2) {
    const uint low = simd_shuffle_up(uint(value), distance);
    const uint high = simd_shuffle_up(uint(value >> 32), distance);
    if (lane >= uint(distance)) value += (ulong(high) << 32) | ulong(low);
  }
  return value;
}

static inline Place place_of(TokenWeights weights, bool with_distance, uint key, uint token) {
  Place place;
  place.distance = with_distance ? weights.distance(key) : 0u;
  place.key = key;
  place.token = token;
  return place;
}

static inline bool all_are(uint4 values, uint value) {
  return values.x == value && values.y == value && values.z == value && values.w == value;
}

// Sums the measures of the candidates that `path` leads to, by their digits on `level`;
// sum_through() then gives those of a digit and all before it, to all threads.
static inline void fill_histogram(Candidates all, TokenWeights weights, Path path, uint level,
                                  Workspace work, GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the histogram before has been read
  for (uint i = self.index; i < kBuckets; i += self.count) {
    atomic_store_explicit(&work.low[i], 0u, memory_order_relaxed);
    atomic_store_explicit(&work.high[i], 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Where all tokens are in their order, those of an id's upper digits lie together.
  uint begin = 0u;
  uint quads = all.quads();
  if (!all.gathered && path.mask.token != 0u) {
    begin = path.value.token / 4u;
    quads = (~path.mask.token & 0xffffffu) / 4u + 1u;
  }
  const bool with_distance = level < kKeyLevel || path.mask.distance != 0u;
  const uint rounds = (quads + self.count - 1u) / self.count;
  uint4 keys = candidate_keys(all, work, begin + self.index);
  for (uint round = 0u; round < rounds; ++round) {
    const uint quad = begin + round * self.count + self.index;
    const uint4 next = candidate_keys(all, work, quad + self.count);  // is on its way meanwhile
    const uint4 tokens = candidate_tokens(all, work, quad);
    const Place x = place_of(weights, with_distance, keys.x, tokens.x);
    const Place y = place_of(weights, with_distance, keys.y, tokens.y);
    const Place z = place_of(weights, with_distance, keys.z, tokens.z);
    const Place w = place_of(weights, with_distance, keys.w, tokens.w);
    const ulong of_x = path.leads_to(x) ? weights.measure(x.key, x.token) : 0ul;
    const ulong of_y = path.leads_to(y) ? weights.measure(y.key, y.token) : 0ul;
    const ulong of_z = path.leads_to(z) ? weights.measure(z.key, z.token) : 0ul;
    const ulong of_w = path.leads_to(w) ? weights.measure(w.key, w.token) : 0ul;
    const uint4 digits = uint4(x.digit(level), y.digit(level), z.digit(level), w.digit(level));
    // Neighbours share the upper digit of their ids, and in a flat distribution any: one addition.
    const uint digit = simd_broadcast(digits.x, 0);
    if (simd_all(all_are(digits, digit))) {
      const ulong sum = simd_sum_of_measures(of_x + of_y + of_z + of_w);
      if (self.lane == 0u) add_to_bucket(work, digit, sum);
    } else {
      add_to_bucket(work, digits.x, of_x);
      add_to_bucket(work, digits.y, of_y);
      add_to_bucket(work, digits.z, of_z);
      add_to_bucket(work, digits.w, of_w);
    }
    keys = next;
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

// The first digit through which the sum is at least `target`, as the sum of all is.
static inline uint digit_reaching(Workspace work, ulong target) {
  uint digit = 0u;
  for (uint step = kBuckets / 2u; step > 0u; step /= 2u) {
    if (sum_through(work, digit + step - 1u) < target) digit += step;
  }
  return digit;
}

// The sum of the measures, for all threads.
static inline ulong sum_of_measures(Candidates all, TokenWeights weights, Workspace work,
                                    GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the histogram before has been read
  if (self.index == 0u) {
    atomic_store_explicit(&work.low[0], 0u, memory_order_relaxed);
    atomic_store_explicit(&work.high[0], 0u, memory_order_relaxed);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  ulong sum = 0ul;
  for (uint quad = self.index; quad < all.quads(); quad += self.count) {
    const uint4 keys = candidate_keys(all, work, quad);
    const uint4 tokens = candidate_tokens(all, work, quad);
    sum += weights.measure(keys.x, tokens.x) + weights.measure(keys.y, tokens.y);
    sum += weights.measure(keys.z, tokens.z) + weights.measure(keys.w, tokens.w);
  }
  sum = simd_prefix_sum_long(sum, self.lane);
  if (self.lane == 31u) add_to_bucket(work, 0u, sum);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return sum_through(work, 0u);
}

// Whether a single candidate with a measure is left that `path` leads to: `place`, then.
static inline bool only_candidate(Candidates all, TokenWeights weights, Path path,
                                  thread Place& place, Workspace work, GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the number of before has been read
  if (self.index == 0u) atomic_store_explicit(work.gathered, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const bool with_distance = path.mask.distance != 0u;
  for (uint quad = self.index; quad < all.quads(); quad += self.count) {
    const uint4 keys = candidate_keys(all, work, quad);
    const uint4 tokens = candidate_tokens(all, work, quad);
    for (uint i = 0u; i < 4u; ++i) {
      if (!path.leads_to(place_of(weights, with_distance, keys[i], tokens[i]))) continue;
      if (weights.measure(keys[i], tokens[i]) == 0ul) continue;
      if (atomic_fetch_add_explicit(work.gathered, 1u, memory_order_relaxed) == 0u) {
        work.partials[0] = keys[i];
        work.partials[1] = tokens[i];
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (atomic_load_explicit(work.gathered, memory_order_relaxed) != 1u) return false;
  place = place_of(weights, true, work.partials[0], work.partials[1]);
  return true;
}

// Brings candidates into thread-group memory, if there is room: those of distances from `first` to
// `last`.
static inline Candidates gather(Candidates all, TokenWeights weights, uint first, uint last,
                                Workspace work, GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the number of before has been read
  if (self.index == 0u) atomic_store_explicit(work.gathered, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint rounds = (all.quads() + self.count - 1u) / self.count;
  uint4 keys = candidate_keys(all, work, self.index);
  for (uint round = 0u; round < rounds; ++round) {
    const uint quad = round * self.count + self.index;
    const uint4 next = candidate_keys(all, work, quad + self.count);
    bool4 stays = bool4(false);
    uint count = 0u;
    for (uint i = 0u; i < 4u; ++i) {
      const Place place = place_of(weights, true, keys[i], 4u * quad + i);
      stays[i] = place.distance >= first && place.distance <= last &&
                 weights.measure(place.key, place.token) != 0ul;
      count += stays[i] ? 1u : 0u;
    }
    const uint preceding = simd_prefix_exclusive_sum(count);
    uint index = 0u;
    if (self.lane == 31u && preceding + count > 0u) {
      index = atomic_fetch_add_explicit(work.gathered, preceding + count, memory_order_relaxed);
    }
    index = simd_broadcast(index, 31) + preceding;
    for (uint i = 0u; i < 4u; ++i) {
      if (!stays[i]) continue;
      if (index < kCapacity) {
        ((threadgroup uint*)work.keys)[index] = keys[i];
        ((threadgroup uint*)work.tokens)[index] = 4u * quad + i;
      }
      ++index;
    }
    keys = next;
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

// floor(a b / 2^64).
static inline ulong multiply_high(ulong a, ulong b) {
  const ulong mask = 0xfffffffful;
  const ulong low = (a & mask) * (b & mask);
  const ulong cross_a = (a >> 32) * (b & mask);
  const ulong cross_b = (a & mask) * (b >> 32);
  const ulong carry = (low >> 32) + (cross_a & mask) + (cross_b & mask);
  return (a >> 32) * (b >> 32) + (cross_a >> 32) + (cross_b >> 32) + (carry >> 32);
}

// What a search has to reach: a count, or a share (times 2^64) of the sum of all measures.
struct Target {
  bool is_count;
  bool exceeds;  // the share, instead of reaching it
  ulong value;

  ulong of(ulong sum) const {
    if (is_count) return min(value, sum);
    const bool is_inexact = value * sum != 0ul;
    return max(multiply_high(value, sum) + (exceeds || is_inexact ? 1ul : 0ul), 1ul);
  }
};

// Gathered candidates in the registers of a SIMD group, which finds one without the others: bit by
// bit instead of digit by digit.
struct FewCandidates {
  enum { kEach = kFew / 32 };  // of a lane
  uint keys[kEach], tokens[kEach];
  ulong measures[kEach];  // at most 2^44 each, so simd_sum_of_measures() takes eight

  void load(Candidates all, TokenWeights weights, Workspace work, uint lane) {
#pragma unroll
    for (uint i = 0u; i < uint(kEach); ++i) {
      const uint at = lane + 32u * i;
      const bool inside = at < all.count;
      keys[i] = inside ? ((threadgroup const uint*)work.keys)[at] : kAbsent;
      tokens[i] = inside ? ((threadgroup const uint*)work.tokens)[at] : 0xffffffffu;
      measures[i] = weights.measure(keys[i], tokens[i]);
    }
  }
  ulong sum() const {
    ulong all = 0ul;
#pragma unroll
    for (uint i = 0u; i < uint(kEach); ++i) all += measures[i];
    return simd_sum_of_measures(all);
  }

  // The smallest of the values, of candidates that have a measure, through which the sum of
  // measures reaches `rest`; then those beside it have none any more, and `rest` is what is left.
  uint find(thread const uint* values, thread ulong& rest) {
    uint least = 0xffffffffu, most = 0u;
#pragma unroll
    for (uint i = 0u; i < uint(kEach); ++i) {
      if (measures[i] == 0ul) continue;
      least = min(least, values[i]);
      most = max(most, values[i]);
    }
    least = simd_min(least);
    most = simd_max(most);
    // Upper bits are those of all.
    uint bit = 32u;
    while (bit > 0u && ((least ^ most) >> (bit - 1u)) == 0u) --bit;
    uint found = bit == 32u ? 0u : (least >> bit) << bit;
    while (bit > 0u) {
      --bit;
      const uint through = found | ((1u << bit) - 1u);
      ulong all = 0ul;
#pragma unroll
      for (uint i = 0u; i < uint(kEach); ++i) all += values[i] <= through ? measures[i] : 0ul;
      if (simd_sum_of_measures(all) < rest) found |= 1u << bit;
    }
    ulong before = 0ul;
#pragma unroll
    for (uint i = 0u; i < uint(kEach); ++i) {
      before += values[i] < found ? measures[i] : 0ul;
      if (values[i] != found) measures[i] = 0ul;
    }
    rest -= simd_sum_of_measures(before);
    return found;
  }
};

// search() among at most kFew gathered candidates. `rest` as there.
static inline Place search_few(Candidates all, TokenWeights weights, Target target, ulong rest,
                               bool by_token, Workspace work, GroupThread self) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the place of before has been read
  if (self.simdgroup == 0u) {
    FewCandidates few;
    few.load(all, weights, work, self.lane);
    if (rest == 0ul) rest = target.of(few.sum());
    uint key = 0u;
    if (!by_token) key = few.find(few.keys, rest);
    const uint token = few.find(few.tokens, rest);
    if (self.lane == 0u) {
      work.partials[0] = key;
      work.partials[1] = token;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const Place place = {0u, work.partials[0], work.partials[1]};
  return place;
}

// The token, of those that are left, with which the sum of measures reaches the target: in the
// order of ids when `first_level` is kTokenLevel, else in that of probability, then of ids. Then
// what is left is gathered when there is room, if all that comes after that token is dropped.
static inline Place search(thread Candidates& left, TokenWeights weights, Target target,
                           uint first_level, Workspace work, GroupThread self) {
  Candidates among = left;
  Path path = {{0u, 0u, 0u}, {0u, 0u, 0u}};
  ulong rest = 0ul;  // to be reached; 0: the first histogram will tell
  if (first_level == kDistanceLevel && !left.gathered) {
    rest = target.of(sum_of_measures(left, weights, work, self));
    const Candidates near = gather(left, weights, 0u, kNearDistance, work, self);
    if (near.gathered && sum_of_measures(near, weights, work, self) >= rest) left = among = near;
  }
  if (among.gathered && among.count <= kFew) {
    return search_few(among, weights, target, rest, first_level == kTokenLevel, work, self);
  }
  for (uint level = first_level; level < kLevels; ++level) {
    if (level >= kTokenLevel && level + 1u < kLevels &&
        (kVocabSize - 1u) >> level_shift(level) == 0u) {
      path.append(level, 0u);  // the digit of all ids
      continue;
    }
    fill_histogram(among, weights, path, level, work, self);
    if (rest == 0ul) rest = target.of(sum_through(work, kBuckets - 1u));
    const uint digit = digit_reaching(work, rest);
    ulong sum = sum_through(work, digit);
    if (digit > 0u) {
      const ulong before = sum_through(work, digit - 1u);
      rest -= before;
      sum -= before;
    }
    path.append(level, digit);

    if (level < kKeyLevel && !among.gathered) {
      const uint last = path.value.distance | (~path.mask.distance & 0xffffu);
      const uint first = level == kDistanceLevel ? 0u : path.value.distance;
      among = gather(among, weights, first, last, work, self);
      if (level == kDistanceLevel && among.gathered) left = among;
    }
    if (among.gathered && only_candidate(among, weights, path, path.value, work, self)) break;
    // No other token has this key.
    if (level == kTokenLevel - 1u && sum == weights.measure(path.value.key, 0u)) {
      path.value.token = 0xffffffffu;
      break;
    }
  }
  return path.value;
}
