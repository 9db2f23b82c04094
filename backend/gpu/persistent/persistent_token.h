#pragma once

#include <memory>

#include "backend/gpu/buffer_pool.h"
#include "backend/gpu/layer_dispatcher.h"
#include "backend/gpu/persistent/token_plan.h"
#include "backend/gpu/program.h"

namespace gander::gpu {

/// A model on a device whose groups may wait for each other: a token is two dispatches, embed and
/// one kernel for all layers and the head (kernels/persistent/token.msl).
class PersistentToken {
 public:
  /// Whether the kernel can run the model on the device: heads of 64 channels, widths that are
  /// multiples of 256 and at most 4096, enough groups and group memory.
  static bool supports(const Weights& weights, const DeviceInfo& info);

  PersistentToken(const PersistentToken&) = delete;  // the pool knows where the views are
  PersistentToken& operator=(const PersistentToken&) = delete;

  /// Plans who multiplies what, for states in `slots` slots, of which tokens take the first;
  /// `weights` and `device` outlive this. Throws Error when the device has too little group memory.
  PersistentToken(const Weights& weights, std::uint32_t slots, bool half_states, Device& device);

  /// Bytes of the weights and the plan's tables that place() will allocate, beside the state and
  /// the activations that every program has.
  std::uint64_t bytes() const;
  /// Allocates everything. Nothing is copied yet.
  void place();
  /// Fills the weights; nothing may be running.
  void upload(const Progress& progress);

  /// The program of the token that lies at `token`; without logits it leaves the state only. When
  /// `traced` it notes how long its stages took.
  Program record(const View& token, bool logits, bool traced = false) const;

  /// The weights lie as TokenWeights says, quantised low-rank matrices as floats.
  const ModelMemory& memory() const { return memory_; }
  const TokenWeights& weights() const { return placed_; }

  /// Nanoseconds of each stage of the last token that was recorded as traced: five a layer, the
  /// head; zeros without one.
  std::vector<std::uint64_t> read_trace() const;
  /// The hidden units of the last layer after relu², of the last token. [F]
  std::vector<float> read_hidden() const;

 private:
  const Weights& weights_;
  std::uint32_t slots_;
  bool half_states_;
  Device& device_;
  TokenWeights placed_;
  TokenPlan plan_;
  ModelMemory memory_;
  View buffer_;  // of all weights
  BufferPool tables_;
  // In it: the plan's tables; what blocks hand each other, which no other kernel may write to; what
  // the last one keeps for the state; counters; times.
  View layers_, blocks_, segments_, pieces_;
  View sums_, projected_, low_rank_, gated_, hidden_, kept_, counters_, trace_;
};

}  // namespace gander::gpu
