#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/layer_buffers.h"

namespace gander::gpu {

/// Slots of a state pool that belong to no sequence: states are held there, to be read by other
/// threads, or brought there by them, while the device computes. It outlives what it gives out.
class HeldStates {
 public:
  /// Has the `count` slots from `first` on. The device must transfer aside, and outlives it.
  HeldStates(Device& device, const StateBuffers& state, std::uint32_t first, std::uint32_t count);

  /// Null when all slots are taken.
  std::unique_ptr<HeldState> hold(std::uint32_t slot);
  std::unique_ptr<HeldState> bring(const State& state);

 private:
  class Slot;

  std::unique_ptr<Slot> take();
  void give_back(std::uint32_t slot);

  Device& device_;
  const StateBuffers& state_;
  std::mutex mutex_;  // guards:
  std::vector<std::uint32_t> free_;
};

}  // namespace gander::gpu
