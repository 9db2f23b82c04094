#pragma once

#include <cstddef>
#include <memory>

#include "model/config.h"
#include "model/state.h"

namespace gander {

/// Gives out states, and again those that were let go: the system maps fresh memory page by page,
/// which takes longer than copying a state into it. May be used from any thread; what it gave out
/// may outlive it.
class StatePool {
 public:
  /// Keeps at most `idle_bytes` of states that nobody holds, but at least two.
  StatePool(const Config& config, std::size_t idle_bytes);

  /// A state of unspecified values.
  std::shared_ptr<State> take();

 private:
  struct Shelf;

  Config config_;
  std::shared_ptr<Shelf> shelf_;
};

}  // namespace gander
