#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "model/config.h"

namespace gander {

/// How the next token is chosen. The order is: logit bias, penalties, temperature, softmax, then
/// top-k, top-p, min-p and typical, each over what the one before left, then the draw.
/// Each is off at its neutral value.
struct SamplerSettings {
  float temperature = 1.0F;         ///< 0: greedy
  std::uint32_t top_k = 0;          ///< 0: off
  float top_p = 1.0F;               ///< 1: off
  float min_p = 0.0F;               ///< 0: off; keeps p >= min_p * largest p
  float typical_p = 1.0F;           ///< 1: off
  float repetition_penalty = 1.0F;  ///< 1: off; divides positive logits of seen tokens
  float presence_penalty = 0.0F;    ///< subtracted once from the logit of a seen token
  float frequency_penalty = 0.0F;   ///< subtracted per (decayed) occurrence
  float penalty_decay = 0.996F;     ///< of the occurrence counts, per token
  std::vector<std::pair<TokenId, float>> logit_bias = {};  ///< -infinity bans a token
  std::uint64_t seed = 0;                                  ///< same seed, same text
};

/// What a sampler remembers of the tokens before, for a device that goes on in its place. The spans
/// are the sampler's own memory.
struct SamplerMemory {
  std::uint64_t random = 0;                 ///< state of SplitMix64
  float scale = 1.0F;                       ///< an occurrence count is counts[token] * scale
  std::span<const float> counts;            ///< [V]
  std::span<const TokenId> seen;            ///< tokens that have been counted, each once
  std::span<const std::uint8_t> uncounted;  ///< [V] 1 for tokens that never are
};

}  // namespace gander
