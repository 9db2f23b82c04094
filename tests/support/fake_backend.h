#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/model.h"
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
  void read_state(State& state) const override { state = state_; }
  void write_state(const State& state) override;
  void reset() override;

  /// All tokens the sequence has read.
  const std::vector<TokenId>& history() const { return history_; }
  /// How often forward() was called.
  int calls() const { return calls_; }

 private:
  Config config_;
  Predict predict_;
  State state_;  // the number of tokens, then the tokens
  std::vector<TokenId> history_;
  int calls_ = 0;
};

/// A fake backend's width of everything but the vocabulary.
Config fake_config(std::uint32_t vocab_size);

/// Predicts, after the first `prompt` tokens, the tokens of `script` one after the other, then 0.
FakeBackend::Predict scripted(std::size_t prompt, std::vector<TokenId> script);

/// A model of a tokenizer (may be null) without weights.
Model fake_model(std::shared_ptr<const Tokenizer> tokenizer, std::uint32_t vocab_size);

}  // namespace gander
