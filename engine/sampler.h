#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "model/config.h"
#include "model/tokenizer/tokenizer.h"

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

/// Chooses tokens from logits, and remembers what it chose for the penalties. Allocates only in the
/// constructor. Equal probabilities are ordered by id; NaN counts as minus infinity.
class Sampler {
 public:
  /// `tokenizer` (may be null) tells which tokens are only spaces, tabs and digits: they are never
  /// seen by the penalties. Throws Error for a setting out of range.
  Sampler(SamplerSettings settings, std::uint32_t vocab_size, const Tokenizer* tokenizer);

  /// Chooses from V logits, without recording the choice.
  TokenId sample(std::span<const float> logits);
  /// Records a token for the penalties: counts decay, then its own grows by one.
  void accept(TokenId token);
  /// Forgets what was accepted.
  void forget();
  /// Forgets what was accepted and starts the random sequence again from the seed.
  void reset();
  /// Starts the random sequence from another seed.
  void reseed(std::uint64_t seed);

 private:
  struct Candidate {
    TokenId token;
    float weight;       ///< probability relative to the largest one
    std::uint32_t key;  ///< a selection keeps the smallest
  };
  /// The last candidate that a selection keeps, in the order by key, then by token.
  struct Cut {
    std::uint32_t key;
    TokenId token;
  };

  void adjust_logits(std::span<const float> logits);
  void apply_penalties();
  float log_weight(float logit) const;
  double compute_weights();
  double total_weight() const;
  void gather_heavy(float least);
  void keep_top_k();
  void keep_top_p(double total);
  void keep_min_p();
  void keep_typical();
  template <typename Weigh>
  Cut find_cut(double target, Weigh weigh);
  void keep_until(Cut cut);
  TokenId draw_from_all(double total);
  TokenId draw_from_candidates();
  double uniform();

  SamplerSettings settings_;
  std::uint32_t vocab_size_ = 0;
  std::uint64_t random_ = 0;

  // Penalties. An occurrence count is counts_[token] * scale_: decay touches one number.
  std::vector<bool> uncounted_;  // tokens of spaces, tabs and digits
  std::vector<float> counts_;
  std::vector<bool> is_seen_;
  std::vector<TokenId> seen_;
  float scale_ = 1.0F;

  // Of the current token. Blocks of kBlock logits have their largest, and their sum of weights.
  std::vector<float> logits_, weights_;
  std::vector<float> block_largest_, block_scratch_;
  std::vector<double> block_sums_;
  float largest_ = 0.0F, inverse_temperature_ = 1.0F;
  std::vector<Candidate> candidates_;  // in the order of their ids
  std::vector<double> histogram_;
};

}  // namespace gander
