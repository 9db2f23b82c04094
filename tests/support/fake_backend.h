#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {

/// A backend without a model: its logits are any function of the tokens read so far, and its State
/// holds those tokens, so that a sequence can be compared by what it has read.
class FakeBackend final : public Backend {
 public:
  using Predict = std::function<void(std::span<const TokenId> history, std::span<float> logits)>;

  FakeBackend(std::uint32_t vocab_size, Predict predict);

  const Config& config() const override { return config_; }
  std::string description() const override { return "fake"; }
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override;
  std::uint32_t slots() const override { return 1; }
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best = {}) override;
  void read_state(State& state, std::uint32_t slot = 0) const override;
  void write_state(const State& state, std::uint32_t slot = 0) override;
  void reset(std::uint32_t slot = 0) override;
  Generator* generator() override { return generator_ ? &*generator_ : nullptr; }

  /// From now on tokens can be sampled here; without penalties.
  void enable_generator() { generator_.emplace(*this); }
  /// Blocks that were queued.
  int blocks() const { return generator_ ? generator_->blocks() : 0; }

  /// All tokens the sequence has read.
  const std::vector<TokenId>& history() const { return history_; }
  /// How often forward() was called.
  int calls() const { return calls_; }

 private:
  /// Computes each block when it is queued. Throws std::logic_error when it is used in another
  /// order than Generator says.
  class FakeGenerator final : public Generator {
   public:
    explicit FakeGenerator(FakeBackend& backend) : backend_(backend) {}

    bool supports(const SamplerSettings& settings) const override;
    void start(const SamplerSettings& settings, const SamplerMemory& memory) override;
    void queue(std::uint32_t count) override;
    void collect(std::span<TokenId> tokens) override;
    void read_block_state(State& state) override;
    void stop() override;

    int blocks() const { return blocks_; }
    bool is_running() const { return sampler_.has_value(); }

   private:
    struct Block {
      State state;  // before it
      std::vector<TokenId> tokens;
    };

    FakeBackend& backend_;
    std::optional<Sampler> sampler_;
    std::optional<TokenId> unfed_;
    std::deque<Block> queued_;
    std::optional<Block> collected_;
    int blocks_ = 0;
  };

  Config config_;
  Predict predict_;
  State state_;  // the number of tokens, then the tokens
  std::vector<TokenId> history_;
  int calls_ = 0;
  std::vector<float> last_logits_;
  std::optional<FakeGenerator> generator_;
};

/// A fake backend's width of everything but the vocabulary.
Config fake_config(std::uint32_t vocab_size);

/// Predicts, after the first `prompt` tokens, the tokens of `script` one after the other, then 0.
FakeBackend::Predict scripted(std::size_t prompt, std::vector<TokenId> script);

/// A model of a tokenizer (may be null) without weights.
Model fake_model(std::shared_ptr<const Tokenizer> tokenizer, std::uint32_t vocab_size);

}  // namespace gander
