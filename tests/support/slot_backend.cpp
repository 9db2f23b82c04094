#include "tests/support/slot_backend.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "tests/support/fake_backend.h"

namespace gander {
namespace {

std::uint64_t scrambled(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

}  // namespace

SlotBackend::SlotBackend(std::uint32_t vocab_size, std::uint32_t slots, Predict predict)
    : config_(fake_config(vocab_size)), predict_(std::move(predict)), states_(slots) {}

void SlotBackend::forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) {
  const SequenceStep one = {0, tokens, which};
  step({&one, 1}, logits);
}

void SlotBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                       std::span<TokenId> best) {
  if (on_step) on_step(steps);
  Step counted;
  for (const SequenceStep& step : steps) {
    ++counted.sequences;
    counted.tokens += static_cast<std::uint32_t>(step.tokens.size());
    counted.longest = std::max(counted.longest, static_cast<std::uint32_t>(step.tokens.size()));
  }
  {
    const std::lock_guard lock(mutex_);
    steps_.push_back(counted);
  }
  step_by_sequence(steps, config_.vocab_size, logits, best,
                   [this](const SequenceStep& step, std::span<float> out) {
                     Sequence& sequence = states_[step.slot];
                     for (std::size_t i = 0; i < step.tokens.size(); ++i) {
                       const TokenId token = step.tokens[i];
                       sequence.hash = scrambled(sequence.hash + 0x9e3779b97f4a7c15U * (token + 1));
                       ++sequence.read;
                       const bool last = i + 1 == step.tokens.size();
                       if (step.which == Logits::None || (step.which == Logits::Last && !last)) {
                         continue;
                       }
                       predict_(sequence.hash, sequence.read, token, out.first(config_.vocab_size));
                       out = out.subspan(config_.vocab_size);
                     }
                   });
}

// Sixteen bits of the hash to a value, then the number of tokens.
void SlotBackend::read_state(State& state, std::uint32_t slot) const {
  state.clear();
  const Sequence& sequence = states_[slot];
  for (std::size_t i = 0; i < 4; ++i) {
    state.values()[i] = static_cast<float>(sequence.hash >> (16 * i) & 0xffffU);
  }
  state.values()[4] = static_cast<float>(sequence.read);
}

void SlotBackend::write_state(const State& state, std::uint32_t slot) {
  Sequence& sequence = states_[slot];
  sequence.hash = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    sequence.hash |= static_cast<std::uint64_t>(state.values()[i]) << (16 * i);
  }
  sequence.read = static_cast<std::size_t>(state.values()[4]);
}

void SlotBackend::reset(std::uint32_t slot) {
  states_[slot] = {};
}

std::vector<SlotBackend::Step> SlotBackend::steps() const {
  const std::lock_guard lock(mutex_);
  return steps_;
}

std::uint64_t SlotBackend::tokens() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t tokens = 0;
  for (const Step& step : steps_) tokens += step.tokens;
  return tokens;
}

SlotBackend::Predict babbling(std::uint32_t vocab_size) {
  return [vocab_size](std::uint64_t hash, std::size_t, TokenId, std::span<float> logits) {
    constexpr std::string_view kLikely = "abcd \n:U\xc3\xa9";
    for (std::uint32_t token = 0; token < vocab_size; ++token) {
      logits[token] = static_cast<float>(scrambled(hash + token) % 1000) / 1000.0F;
    }
    for (const char c : kLikely) logits[static_cast<unsigned char>(c) + 1U] += 6.0F;
    for (TokenId token = 257; token < vocab_size; ++token) logits[token] += 6.0F;
    if (hash % 64 == 0) logits[0] = 20.0F;
  };
}

SlotBackend::Predict alphabet() {
  return [](std::uint64_t, std::size_t, TokenId last, std::span<float> logits) {
    std::ranges::fill(logits, 0.0F);
    const TokenId next = last >= 'a' + 1 && last < 'z' + 1 ? last + 1 : 'a' + 1;
    logits[next] = 30.0F;
  };
}

}  // namespace gander
