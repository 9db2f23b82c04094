#include "backend/gpu/held_states.h"

namespace gander::gpu {

class HeldStates::Slot final : public HeldState {
 public:
  Slot(HeldStates& owner, std::uint32_t index) : owner_(owner), index_(index) {}
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() override { owner_.give_back(index_); }

  void copy_from(std::uint32_t slot) {
    owner_.device_.copy(owner_.state_.slot(slot), owner_.state_.slot(index_));
  }
  void write_to(std::uint32_t slot) const override {
    owner_.device_.copy(owner_.state_.slot(index_), owner_.state_.slot(slot));
  }
  void read(State& state) const override {
    const auto aside = [this](const View& view, std::span<std::byte> bytes) {
      owner_.device_.read_aside(view, bytes);
    };
    read_slot(owner_.state_, index_, aside, state);
  }
  void write(const State& state) {
    const auto aside = [this](const View& view, std::span<const std::byte> bytes) {
      owner_.device_.write_aside(view, bytes);
    };
    write_slot(owner_.state_, index_, aside, state);
  }

 private:
  HeldStates& owner_;
  std::uint32_t index_;
};

HeldStates::HeldStates(Device& device, const StateBuffers& state, std::uint32_t first,
                       std::uint32_t count)
    : device_(device), state_(state) {
  for (std::uint32_t i = count; i > 0; --i) free_.push_back(first + i - 1);
}

std::unique_ptr<HeldStates::Slot> HeldStates::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return nullptr;
  auto slot = std::make_unique<Slot>(*this, free_.back());
  free_.pop_back();
  return slot;
}

void HeldStates::give_back(std::uint32_t slot) {
  const std::lock_guard lock(mutex_);
  free_.push_back(slot);
}

std::unique_ptr<HeldState> HeldStates::hold(std::uint32_t slot) {
  std::unique_ptr<Slot> held = take();
  if (held != nullptr) held->copy_from(slot);
  return held;
}

std::unique_ptr<HeldState> HeldStates::bring(const State& state) {
  std::unique_ptr<Slot> held = take();
  if (held != nullptr) held->write(state);
  return held;
}

}  // namespace gander::gpu
