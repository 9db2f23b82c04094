#pragma once

#include <cstdint>
#include <span>

#include "backend/sampling.h"
#include "model/state.h"

namespace gander {

/// Generates on a backend's device: tokens are sampled there and fed without asking the CPU, which
/// collects them in blocks. A block feeds the token sampled before it, if there is one, and then
/// samples its own, feeding each before the next; so its last token is not fed. Between start() and
/// stop() the backend is not used otherwise.
class Generator {
 public:
  /// How many blocks may be queued and not collected, and tokens in a block.
  static constexpr std::uint32_t kMaxQueued = 2;
  static constexpr std::uint32_t kMaxBlock = 64;

  virtual ~Generator() = default;

  /// Whether the device can do what these settings ask. If not, logits are for the CPU to sample.
  virtual bool supports(const SamplerSettings& settings) const = 0;
  /// Goes on from the logits of the last Backend::forward, in the place of a sampler that stands at
  /// `memory`.
  virtual void start(const SamplerSettings& settings, const SamplerMemory& memory) = 0;
  /// Queues a block of `count` tokens and returns at once.
  virtual void queue(std::uint32_t count) = 0;
  /// Waits for the oldest block that was not collected; `tokens` has the size it was queued with.
  virtual void collect(std::span<TokenId> tokens) = 0;
  /// Copies out the state before the block that was collected last: after everything sampled before
  /// it has been fed, and nothing of it. To be called before the next queue().
  virtual void read_block_state(State& state) = 0;
  /// Waits for what is queued. The sequence is then that of the last block; where tokens of it or
  /// of an earlier one are not wanted, it is to be set with Backend::write_state.
  virtual void stop() = 0;
};

/// Starts in the place of a sampler that has seen no token.
void start_fresh(Generator& generator, const SamplerSettings& settings, std::uint32_t vocab_size);

}  // namespace gander
