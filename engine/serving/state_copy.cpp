#include "engine/serving/state_copy.h"

#include <utility>

namespace gander {

StateCopy::StateCopy(Backend& backend, std::uint32_t slot, StatePool& pool)
    : backend_(backend), pool_(pool), held_(backend.hold_state(slot)) {
  if (held_ != nullptr) return;
  const std::shared_ptr<State> state = pool.take();
  backend.read_state(*state, slot);
  state_ = state;
}

StateCopy::StateCopy(Backend& backend, std::shared_ptr<const State> state, StatePool& pool)
    : backend_(backend),
      pool_(pool),
      held_(backend.bring_state(*state)),
      state_(std::move(state)) {}

std::shared_ptr<const State> StateCopy::state() {
  const std::lock_guard lock(mutex_);
  if (state_ == nullptr) {
    const std::shared_ptr<State> state = pool_.take();
    held_->read(*state);
    state_ = state;
  }
  return state_;
}

void StateCopy::restore(std::uint32_t slot) {
  if (held_ != nullptr) return held_->write_to(slot);
  backend_.write_state(*state(), slot);
}

}  // namespace gander
