#pragma once

#include <memory>
#include <mutex>

#include "backend/backend.h"
#include "model/state_pool.h"

namespace gander {

/// A sequence's state at some point: on the backend's device where it can be kept there, in memory
/// otherwise. Ends before the backend does.
class StateCopy {
 public:
  /// Of a slot, as it is now. On the thread that uses the backend, as restore().
  StateCopy(Backend& backend, std::uint32_t slot, StatePool& pool);
  /// Of a state in memory, brought to the device if it can be. On any thread.
  StateCopy(Backend& backend, std::shared_ptr<const State> state, StatePool& pool);

  /// In memory: read from the device by the first call. On any thread, while the backend is used.
  std::shared_ptr<const State> state();
  /// Makes it the state of a slot.
  void restore(std::uint32_t slot);

 private:
  Backend& backend_;
  StatePool& pool_;
  std::unique_ptr<HeldState> held_;  // null: the state is in memory from the beginning
  std::mutex mutex_;                 // guards:
  std::shared_ptr<const State> state_;
};

}  // namespace gander
