#include "engine/tokens_ahead.h"

#include <algorithm>

namespace gander {

TokensAhead::TokensAhead(Generator& generator, Sampler& sampler, std::uint64_t max_tokens,
                         std::uint32_t block)
    : generator_(generator),
      sampler_(sampler),
      unqueued_(max_tokens),
      uncollected_(max_tokens),
      block_(std::clamp(block, 1U, Generator::kMaxBlock)) {
  tokens_.reserve(block_);
  generator_.start(sampler.settings(), sampler.memory());
}

TokensAhead::~TokensAhead() {
  if (!is_running_) return;
  try {
    generator_.stop();
  } catch (...) {  // NOLINT(bugprone-empty-catch): an exception is on its way already
  }
}

void TokensAhead::stop() {
  is_running_ = false;
  generator_.stop();
}

TokenId TokensAhead::next() {
  if (is_block_read()) {
    while (unqueued_ > 0 && uncollected_ - unqueued_ < Generator::kMaxQueued * block_) {
      const std::uint64_t count = std::min<std::uint64_t>(unqueued_, block_);
      generator_.queue(static_cast<std::uint32_t>(count));
      unqueued_ -= count;
    }
    tokens_.resize(std::min<std::uint64_t>(uncollected_, block_));
    generator_.collect(tokens_);
    uncollected_ -= tokens_.size();
    read_ = 0;
  }
  const TokenId token = tokens_[read_++];
  sampler_.follow(token);
  return token;
}

}  // namespace gander
