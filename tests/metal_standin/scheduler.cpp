#include "tests/metal_standin/scheduler.h"

#include <thread>

namespace gander::standin {

Scheduler& Scheduler::shared() {
  static Scheduler* const instance = new Scheduler;  // its threads use it until the program ends
  return *instance;
}

Scheduler::Scheduler() {
  std::thread([this] { run(); }).detach();
  std::thread([this] { report(); }).detach();
}

void Scheduler::submit(Ref<CommandBuffer> command_buffer) {
  std::lock_guard lock(mutex_);
  committed_.push_back(std::move(command_buffer));
  ++unfinished_;
  changed_.notify_all();
}

void Scheduler::hold(bool hold) {
  std::lock_guard lock(mutex_);
  held_ = hold;
  changed_.notify_all();
}

bool Scheduler::held() {
  std::lock_guard lock(mutex_);
  return held_;
}

void Scheduler::wait_until_idle() {
  std::unique_lock lock(mutex_);
  if (held_ && unfinished_ > 0) misuse("waiting for command buffers whose execution is held");
  changed_.wait(lock, [this] { return unfinished_ == 0; });
}

void Scheduler::run() {
  for (;;) {
    Ref<CommandBuffer> command_buffer;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !held_ && !committed_.empty(); });
      command_buffer = std::move(committed_.front());
      committed_.pop_front();
    }
    command_buffer->execute();
    const bool failed = command_buffer->failed();
    std::lock_guard lock(mutex_);
    if (failed) {
      for (const auto& waiting : committed_) waiting->become_victim();
    }
    executed_.push_back(std::move(command_buffer));
    changed_.notify_all();
  }
}

void Scheduler::report() {
  for (;;) {
    Ref<CommandBuffer> command_buffer;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !executed_.empty(); });
      command_buffer = std::move(executed_.front());
      executed_.pop_front();
    }
    command_buffer->call_handlers();
    command_buffer = {};  // before the program may count what is left
    std::lock_guard lock(mutex_);
    --unfinished_;
    changed_.notify_all();
  }
}

void hold_execution(bool hold) {
  Scheduler::shared().hold(hold);
}

}  // namespace gander::standin
