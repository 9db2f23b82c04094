#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace gander {

/// Threads that work through one job together, in stages with a barrier between them.
///
/// A job is run() once per call of Backend::forward: waking sleeping threads costs microseconds, so
/// it happens once, and the many barriers inside spin. A spin that lasts gives up its core
/// (std::this_thread::yield), so that a busy machine makes progress.
class ThreadPool {
 public:
  /// The calling thread is one of `threads` (at least 1).
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  /// Calls job(context, index) on every thread, index 0 on the caller, and returns when all are
  /// done. The job must not throw. Not reentrant.
  using Job = void (*)(void* context, unsigned index);
  void run(Job job, void* context);

  /// Inside a job: waits until every thread has called it as often. What was written before is
  /// visible to all threads after.
  void barrier();

 private:
  void work(unsigned index);

  Job job_ = nullptr;
  void* context_ = nullptr;
  // Each counter on a cache line of its own: threads spin on them.
  alignas(64) std::atomic<std::uint32_t> generation_{0};  // jobs started; workers sleep on it
  alignas(64) std::atomic<std::uint32_t> arrived_{0};     // threads at the current barrier
  alignas(64) std::atomic<std::uint32_t> phase_{0};       // barriers completed
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

/// Cores this process may run on.
unsigned usable_cores();

}  // namespace gander
