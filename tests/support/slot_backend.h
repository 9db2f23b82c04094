#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace gander {

/// A backend of many slots without a model, for tests of what schedules it: its logits are any
/// function of a hash of the tokens that a sequence has read and of the last of them, and its State
/// holds the hash and their number. It counts what it is given.
class SlotBackend final : public Backend {
 public:
  /// `read`: tokens so far.
  using Predict = std::function<void(std::uint64_t hash, std::size_t read, TokenId last,
                                     std::span<float> logits)>;
  /// Of one step.
  struct Step {
    std::uint32_t sequences = 0;  ///< that it fed
    std::uint32_t tokens = 0;     ///< of all
    std::uint32_t longest = 0;    ///< tokens of one sequence
  };

  SlotBackend(std::uint32_t vocab_size, std::uint32_t slots, Predict predict);

  const Config& config() const override { return config_; }
  std::string description() const override { return "slots"; }
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override;
  std::uint32_t slots() const override { return static_cast<std::uint32_t>(states_.size()); }
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best = {}) override;
  void read_state(State& state, std::uint32_t slot = 0) const override;
  void write_state(const State& state, std::uint32_t slot = 0) override;
  void reset(std::uint32_t slot = 0) override;

  /// Called at the beginning of each step, on the engine's thread; may throw.
  std::function<void(std::span<const SequenceStep>)> on_step;
  /// What was fed so far.
  std::vector<Step> steps() const;
  std::uint64_t tokens() const;

 private:
  struct Sequence {
    std::uint64_t hash = 0;
    std::size_t read = 0;
  };

  Config config_;
  Predict predict_;
  std::vector<Sequence> states_;
  mutable std::mutex mutex_;
  std::vector<Step> steps_;
};

/// Predicts letters, spaces, line ends and now and then the end of the text, as the hash has it:
/// ids are byte + 1, as in byte_tokenizer().
SlotBackend::Predict babbling(std::uint32_t vocab_size);

/// Predicts token `last` + 1, within the letters.
SlotBackend::Predict alphabet();

}  // namespace gander
