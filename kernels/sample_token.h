#pragma once

#include "select.h"

static inline ulong as_long(uint low, uint high) {
  return (ulong(high) << 32) | ulong(low);
}

// The next number of SplitMix64, of which 53 bits are used, as a share times 2^64.
static inline ulong next_uniform(thread ulong& random) {
  random += 0x9e3779b97f4a7c15ul;
  ulong z = random;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
  z ^= z >> 31;
  return z & ~0x7fful;
}

// a / b to the last bit, where a compiler's own division may be an approximation.
static inline float exact_quotient(float a, float b) {
  const float quotient = a / b;
  return quotient + fma(-quotient, b, a) / b;
}

static inline float make_finite(float value) {
  return logit_of_key(logit_key(as_type<uint>(value)));
}

static inline void add_biases(device float* logits, device const LogitBias* biases, uint count,
                              GroupThread self) {
  for (uint i = self.index; i < count; i += self.count) {
    const uint token = biases[i].token;
    if (i > 0u && biases[i - 1u].token == token) continue;  // the first one's thread adds them all
    float logit = make_finite(logits[token]);
    for (uint j = i; j < count && biases[j].token == token; ++j) {
      const bool infinite = (as_type<uint>(biases[j].bias) & 0x7fffffffu) == 0x7f800000u;
      logit = make_finite(infinite ? biases[j].bias : logit + biases[j].bias);
    }
    logits[token] = logit;
  }
}

static inline void apply_penalties(device float* logits, device const SampleSettings& settings,
                                   device const SampleState& state, device const float* counts,
                                   device const uint* seen, GroupThread self) {
  for (uint i = self.index; i < state.seen_count; i += self.count) {
    const uint token = seen[i];
    float logit = make_finite(logits[token]);
    logit = logit > 0.0f ? exact_quotient(logit, settings.repetition_penalty)
                         : logit * settings.repetition_penalty;
    logits[token] = make_finite(logit - (settings.presence_penalty +
                                         counts[token] * state.scale * settings.frequency_penalty));
  }
}

struct Best {
  uint key, token;
};

static inline Best better(Best a, uint key, uint token) {
  if (key < a.key || (key == a.key && token < a.token)) {
    a.key = key;
    a.token = token;
  }
  return a;
}

// The best of all threads', for all of them.
static inline Best group_best(Best best, Workspace work, GroupThread self) {
  for (uint round = 0u; round < 2u; ++round) {
    const uint key = simd_min(best.key);
    best.token = simd_min(best.key == key ? best.token : 0xffffffffu);
    best.key = key;
    if (round == 1u) break;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (self.lane == 0u) {
      work.partials[self.simdgroup] = best.key;
      work.partials[32u + self.simdgroup] = best.token;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const bool has = self.lane < self.simdgroups;
    best.key = has ? work.partials[self.lane] : kAbsent;
    best.token = has ? work.partials[32u + self.lane] : 0xffffffffu;
  }
  return best;
}

// The most probable token by the head's partial maxima. Its key is kAbsent when they do not tell: a
// NaN hides what is below it, and of 0 and -0 the head prefers 0, which is not more probable.
static inline Best best_of_maxima(device const uint2* maxima, uint count, Workspace work,
                                  GroupThread self) {
  Best best = {kAbsent, 0xffffffffu};
  bool tells = true;
  for (uint i = self.index; i < count; i += self.count) {
    const uint ordered = maxima[i].x;
    const uint bits = (ordered & 0x80000000u) != 0u ? ordered ^ 0x80000000u : ~ordered;
    if ((bits & 0x7fffffffu) > 0x7f800000u) tells = false;
    best = better(best, logit_key(bits), maxima[i].y);
  }
  if (!tells) best.key = 0u;  // below all keys of logits
  best = group_best(best, work, self);
  if (best.key == 0u || best.key == logit_key(0u)) best.key = kAbsent;
  return best;
}

static inline Best best_of_logits(Candidates all, Workspace work, GroupThread self) {
  Best best = {kAbsent, 0xffffffffu};
  for (uint quad = self.index; 4u * quad < all.count; quad += self.count) {
    const uint4 keys = candidate_keys(all, work, quad);
    for (uint i = 0u; i < 4u; ++i) best = better(best, keys[i], 4u * quad + i);
  }
  return group_best(best, work, self);
}

// Records the token for the penalties: counts decay, then its own grows by one.
static inline void accept(uint token, float decay, device SampleState& state, device float* counts,
                          device uint* seen, GroupThread self) {
  float scale = state.scale * decay;
  if (scale < 1e-18f) {  // before the stored counts overflow; with decay 0 every token
    for (uint i = self.index; i < state.seen_count; i += self.count) counts[seen[i]] *= scale;
    scale = 1.0f;
  }
  threadgroup_barrier(mem_flags::mem_device);
  if (self.index != 0u) return;
  state.scale = scale;
  float count = counts[token];
  if (count == GANDER_UNCOUNTED) return;
  if (count == GANDER_UNSEEN) {
    seen[state.seen_count] = token;
    state.seen_count += 1u;
    count = 0.0f;
  }
  counts[token] = count + exact_quotient(1.0f, scale);
}

// What a sequence's sampler works on.
struct SamplerMemory {
  device const SampleSettings* settings;
  device const LogitBias* biases;
  device SampleState* state;
  device float* counts;  // [V]
  device uint* seen;     // [V]
};

// Chooses the next token from V logits, which it changes, in the order of engine/sampler.h: logit
// bias, penalties, temperature, top-k, top-p, min-p, the draw. For one group; its result does not
// depend on the number of threads. `maxima` are the head's, as many as settings.maxima_count.
static inline uint sample_token(device float* logits, device const uint2* maxima,
                                SamplerMemory memory, Workspace work, GroupThread self) {
  device const SampleSettings& settings = *memory.settings;
  device SampleState& state = *memory.state;
  const bool penalizes = settings.penalizes != 0u && state.seen_count > 0u;
  if (settings.bias_count > 0u) {
    add_biases(logits, memory.biases, settings.bias_count, self);
    threadgroup_barrier(mem_flags::mem_device);
  }
  if (penalizes) {
    apply_penalties(logits, settings, state, memory.counts, memory.seen, self);
    threadgroup_barrier(mem_flags::mem_device);
  }

  Candidates all = {(device const uint*)logits, kVocabSize, false};
  Best best = {kAbsent, 0u};
  if (settings.bias_count == 0u && !penalizes) {
    best = best_of_maxima(maxima, settings.maxima_count, work, self);
  }
  if (best.key == kAbsent) best = best_of_logits(all, work, self);

  uint token = best.token;
  if (settings.greedy == 0u) {
    TokenWeights weights;
    weights.largest = logit_of_key(best.key);
    weights.inverse_temperature = settings.inverse_temperature;
    weights.last_key = kAbsent;
    weights.last_token = 0xffffffffu;
    weights.least_weight = 0.0f;
    ulong random = as_long(state.random_low, state.random_high);
    // Top-k, top-p, the draw. A loop, so that the search is compiled once.
    for (uint step = 0u; step < 3u; ++step) {
      Target target;
      target.is_count = step == 0u;
      target.exceeds = step == 2u;
      if (step == 0u) target.value = ulong(settings.top_k);
      if (step == 1u) target.value = as_long(settings.top_p_low, settings.top_p_high);
      if (step == 2u) target.value = next_uniform(random);
      const bool is_off = step < 2u && target.value == 0ul;
      if (is_off) continue;
      weights.counts = step == 0u;
      if (step == 2u) weights.least_weight = settings.min_p;
      const uint first_level = step == 2u ? kTokenLevel : kDistanceLevel;
      const Place place = search(all, weights, target, first_level, work, self);
      token = place.token;
      weights.last_key = place.key;
      weights.last_token = place.token;
    }
    threadgroup_barrier(mem_flags::mem_device);  // all have read the state
    if (self.index == 0u) {
      state.random_low = uint(random);
      state.random_high = uint(random >> 32);
    }
  }
  // Nobody asks for counts otherwise: they are those of this generation.
  if (settings.penalizes != 0u) {
    accept(token, settings.penalty_decay, state, memory.counts, memory.seen, self);
  }
  return token;
}
