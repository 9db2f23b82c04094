#include "tests/support/fake_backend.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace gander {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::logic_error(what);
}

}  // namespace

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
  require(!generator_ || !generator_->is_running(), "forward() while tokens are generated");
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
  if (which != Logits::None) last_logits_.assign(logits.end() - config_.vocab_size, logits.end());
}

void FakeBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                       std::span<TokenId> best) {
  step_by_sequence(steps, config_.vocab_size, logits, best,
                   [this](const SequenceStep& step, std::span<float> out) {
                     require(step.slot == 0, "a slot that is not there");
                     forward(step.tokens, step.which, out);
                   });
}

void FakeBackend::read_state(State& state, std::uint32_t slot) const {
  require(slot == 0, "a slot that is not there");
  state = state_;
}

void FakeBackend::write_state(const State& state, std::uint32_t slot) {
  require(slot == 0, "a slot that is not there");
  require(!generator_ || !generator_->is_running(), "write_state() while tokens are generated");
  state_ = state;
  const auto size = static_cast<std::size_t>(state_.values()[0]);
  history_.clear();
  for (std::size_t i = 1; i <= size; ++i) {
    history_.push_back(static_cast<TokenId>(state_.values()[i]));
  }
}

void FakeBackend::reset(std::uint32_t slot) {
  require(slot == 0, "a slot that is not there");
  state_.clear();
  history_.clear();
}

bool FakeBackend::FakeGenerator::supports(const SamplerSettings& settings) const {
  return settings.repetition_penalty == 1.0F && settings.presence_penalty == 0.0F &&
         settings.frequency_penalty == 0.0F;
}

void FakeBackend::FakeGenerator::start(const SamplerSettings& settings,
                                       const SamplerMemory& memory) {
  require(!is_running(), "start() while tokens are generated");
  sampler_.emplace(settings, backend_.config_.vocab_size, nullptr);
  sampler_->reseed(memory.random);
  unfed_.reset();
  queued_.clear();
  collected_.reset();
}

void FakeBackend::FakeGenerator::queue(std::uint32_t count) {
  require(is_running() && count > 0 && count <= kMaxBlock, "a block that cannot be");
  require(queued_.size() < kMaxQueued, "too many blocks are queued");
  ++blocks_;
  collected_.reset();  // its state is overwritten
  std::optional<Sampler> sampler = std::exchange(sampler_, std::nullopt);
  const auto feed = [&] {
    if (unfed_) {
      std::vector<float> logits(backend_.config_.vocab_size);
      backend_.forward(std::span(&*unfed_, 1), Logits::Last, logits);
    }
  };
  Block block;
  for (std::uint32_t i = 0; i < count; ++i) {
    feed();
    if (i == 0) block.state = backend_.state_;
    unfed_ = sampler->sample(backend_.last_logits_);
    block.tokens.push_back(*unfed_);
  }
  sampler_ = std::move(sampler);
  queued_.push_back(std::move(block));
}

void FakeBackend::FakeGenerator::collect(std::span<TokenId> tokens) {
  require(!queued_.empty() && queued_.front().tokens.size() == tokens.size(), "no such block");
  collected_ = std::move(queued_.front());
  queued_.pop_front();
  std::ranges::copy(collected_->tokens, tokens.begin());
}

void FakeBackend::FakeGenerator::read_block_state(State& state) {
  require(collected_.has_value(), "the block's state is not there");
  state = collected_->state;
}

void FakeBackend::FakeGenerator::stop() {
  require(is_running(), "stop() while nothing is generated");
  sampler_.reset();
  queued_.clear();
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
