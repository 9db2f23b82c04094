#include "model/state_pool.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace gander {

struct StatePool::Shelf {
  std::mutex mutex;
  std::vector<std::unique_ptr<State>> idle;
  std::size_t most = 0;

  std::unique_ptr<State> take() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return nullptr;
    std::unique_ptr<State> state = std::move(idle.back());
    idle.pop_back();
    return state;
  }
  void put(std::unique_ptr<State> state) {
    const std::lock_guard lock(mutex);
    if (idle.size() < most) idle.push_back(std::move(state));
  }
};

StatePool::StatePool(const Config& config, std::size_t idle_bytes)
    : config_(config), shelf_(std::make_shared<Shelf>()) {
  shelf_->most = std::max<std::size_t>(2, idle_bytes / State::bytes(config));
  shelf_->idle.reserve(shelf_->most);
}

std::shared_ptr<State> StatePool::take() {
  std::unique_ptr<State> state = shelf_->take();
  if (state == nullptr) state = std::make_unique<State>(config_);
  return {state.release(),
          [shelf = shelf_](State* used) { shelf->put(std::unique_ptr<State>(used)); }};
}

}  // namespace gander
