#pragma once

#include "tests/metal_standin/command_buffer.h"

#include <condition_variable>
#include <deque>
#include <mutex>

namespace gander::standin {

/// The GPU: a thread that runs committed command buffers in order, and one that calls their
/// completion handlers meanwhile. Lives as long as the program.
class Scheduler {
 public:
  static Scheduler& shared();

  void submit(Ref<CommandBuffer> command_buffer);
  void hold(bool hold);
  bool held();
  /// Returns when everything committed has run and been reported. Not while execution is held.
  void wait_until_idle();

 private:
  Scheduler();
  void run();
  void report();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Ref<CommandBuffer>> committed_, executed_;
  std::size_t unfinished_ = 0;
  bool held_ = false;
};

}  // namespace gander::standin
