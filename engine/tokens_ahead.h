#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/generator.h"
#include "engine/sampler.h"

namespace gander {

/// Tokens that a device generates in blocks: while the tokens of one are handled, the next is
/// computed.
class TokensAhead {
 public:
  /// `max_tokens` in all, at least 1, in blocks of `block` tokens.
  TokensAhead(Generator& generator, Sampler& sampler, std::uint64_t max_tokens,
              std::uint32_t block);
  ~TokensAhead();
  TokensAhead(const TokensAhead&) = delete;
  TokensAhead& operator=(const TokensAhead&) = delete;

  /// Whether next() begins a block. The state before the block that ends here can be read until
  /// then, not after.
  bool is_block_read() const { return read_ == tokens_.size(); }
  /// The next token, as the sampler would have chosen it; the sampler has followed. Waits for the
  /// device when a block begins. Not more often than `max_tokens`.
  TokenId next();
  /// The state before the block of the last token, with everything sampled before it fed.
  void read_block_state(State& state) { generator_.read_block_state(state); }
  /// Waits for what the device still does: its state may then be ahead of the last token.
  void stop();

 private:
  Generator& generator_;
  Sampler& sampler_;
  std::uint64_t unqueued_, uncollected_;  // tokens; all blocks are full but the last
  std::uint32_t block_;
  std::vector<TokenId> tokens_;  // of the block being read
  std::size_t read_ = 0;
  bool is_running_ = true;
};

}  // namespace gander
