#include "tests/support/fake_backend.h"

#include <algorithm>
#include <utility>

namespace gander {

Config fake_config(std::uint32_t vocab_size) {
  Config config;
  config.vocab_size = vocab_size;
  config.width = config.head_size = 64;
  config.heads = config.layers = 1;
  return config;
}

FakeBackend::FakeBackend(std::uint32_t vocab_size, Predict predict)
    : config_(fake_config(vocab_size)), predict_(std::move(predict)), state_(config_) {
  history_.reserve(state_.values().size());
}

void FakeBackend::forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) {
  ++calls_;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    history_.push_back(tokens[i]);
    state_.values()[history_.size()] = static_cast<float>(tokens[i]);
    state_.values()[0] = static_cast<float>(history_.size());
    if (which == Logits::All) {
      predict_(history_, logits.subspan(i * config_.vocab_size, config_.vocab_size));
    }
  }
  if (which == Logits::Last) predict_(history_, logits.first(config_.vocab_size));
}

void FakeBackend::write_state(const State& state) {
  state_ = state;
  const auto size = static_cast<std::size_t>(state_.values()[0]);
  history_.clear();
  for (std::size_t i = 1; i <= size; ++i) {
    history_.push_back(static_cast<TokenId>(state_.values()[i]));
  }
}

void FakeBackend::reset() {
  state_.clear();
  history_.clear();
}

FakeBackend::Predict scripted(std::size_t prompt, std::vector<TokenId> script) {
  return [prompt, script = std::move(script)](std::span<const TokenId> history,
                                              std::span<float> logits) {
    std::ranges::fill(logits, 0.0F);
    const std::size_t at = history.size() - std::min(prompt, history.size());
    logits[at < script.size() ? script[at] : 0] = 50.0F;
  };
}

Model fake_model(std::shared_ptr<const Tokenizer> tokenizer, std::uint32_t vocab_size) {
  auto weights = std::make_shared<Weights>();
  weights->config = fake_config(vocab_size);
  Model model;
  model.path = "fake";
  model.weights = std::move(weights);
  model.tokenizer = std::move(tokenizer);
  model.fingerprint = 17;
  return model;
}

}  // namespace gander
