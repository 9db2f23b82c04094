#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/sampling.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {

/// Throws Error for a setting out of range.
void check_sampling(const SamplerSettings& settings, std::uint32_t vocab_size);

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
  /// Records a token that a device chose in this sampler's place, going on from its memory(): the
  /// random sequence and the penalties are then as after sample() and accept().
  void follow(TokenId token);
  /// Forgets what was accepted.
  void forget();
  /// Forgets what was accepted and starts the random sequence again from the seed.
  void reset();
  /// The same with other settings: as a new sampler, without its memory. Throws Error for a setting
  /// out of range.
  void restart(SamplerSettings settings);
  /// Starts the random sequence from another seed.
  void reseed(std::uint64_t seed);

  const SamplerSettings& settings() const { return settings_; }
  /// Valid until the sampler is used again.
  SamplerMemory memory() const { return {random_, scale_, counts_, seen_, uncounted_}; }

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

  bool is_greedy() const { return settings_.temperature == 0.0F || settings_.top_k == 1; }
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
  std::vector<std::uint8_t> uncounted_;  // 1: tokens of spaces, tabs and digits
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
