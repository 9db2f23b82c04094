#pragma once

#include <memory>

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

  /// Allocates everything; `weights` and `device` outlive this.
  PersistentToken(const Weights& weights, Device& device);

  /// Fills the weights; nothing may be running.
  void upload(const Progress& progress);

  /// The program of the token that lies at `token`; without logits it leaves the state only.
  Program record(const View& token, bool logits) const;

  /// Only emb, ln0 and what a token leaves are there: x, logits, maxima and the state.
  const ModelMemory& memory() const { return memory_; }
  const TokenPlan& plan() const { return plan_; }
  const TokenWeights& weights() const { return placed_; }

  /// Nanoseconds of each stage of the last token that was recorded with `traced`; 0 elsewhere.
  void set_traced(bool traced) { plan_.parameters.traced = traced ? 1 : 0; }
  std::vector<std::uint64_t> read_trace() const;

 private:
  const Weights& weights_;
  Device& device_;
  TokenWeights placed_;
  TokenPlan plan_;
  ModelMemory memory_;
  View buffer_;  // of all weights
  View layers_, blocks_, segments_, pieces_, added_, barrier_, trace_;
};

}  // namespace gander::gpu
