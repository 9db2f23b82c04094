#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>
#include <vector>

namespace gander {

class ThreadPool;

/// One thread's place in a job: how many steps it has gone through.
class Worker {
 public:
  unsigned index() const { return index_; }
  unsigned threads() const;  ///< of the pool

  /// A step of the job: calls function(i) for every i < count, on whichever threads come, and
  /// returns when all calls are done. What they wrote is visible to all threads afterwards. Every
  /// thread must go through the same steps with the same counts.
  template <typename Function>
  void share(std::size_t count, Function&& function);

 private:
  friend class ThreadPool;
  Worker(ThreadPool& pool, unsigned index, std::uint32_t step)
      : pool_(pool), index_(index), step_(step) {}

  ThreadPool& pool_;
  unsigned index_;
  std::uint32_t step_;
};

/// Threads that work through one job together, step by step.
///
/// Waking threads costs microseconds, so a job is all steps of a chunk of tokens; between steps
/// threads spin, and yield when it lasts. The items of a step are claimed one by one from a
/// counter. So work is waited for, never a thread: one that gets no core (another program has it)
/// claims nothing, the others do its share, and when it comes back it finds the steps over that it
/// slept through. Therefore between two steps a job may only read what its own description holds
/// and what never changes; everything else belongs into an item.
class ThreadPool {
 public:
  /// The calling thread is one of `threads` (at least 1).
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const { return static_cast<unsigned>(threads_.size()) + 1; }

  /// Calls job(Worker&) on all threads, index 0 on the caller, and returns when the caller has gone
  /// through it. Every thread has a copy of the job, which must not throw; late ones may still be
  /// going through it, so what it refers to outlives the pool or waits for settle(). Not reentrant.
  template <typename Job>
  void run(const Job& job) {
    static_assert(std::is_trivially_copyable_v<Job> && sizeof(Job) <= sizeof(Copy));
    Description description = {
        [](Copy& copy, Worker& worker) { reinterpret_cast<const Job&>(copy)(worker); }, {}};
    std::memcpy(&description.job, &job, sizeof job);
    begin(description);
    Worker worker(*this, 0, description_.first_step);
    job(worker);
    end();
  }

  /// Waits until no thread is inside a job.
  void settle() const;

 private:
  friend class Worker;
  struct alignas(16) Copy {
    std::array<std::byte, 96> bytes;
  };
  struct Description {
    void (*call)(Copy& copy, Worker& worker);
    Copy job;
    std::uint32_t first_step = 0;
  };

  void begin(const Description& description);
  void end();
  void work(unsigned index);
  void wait_for_end_of(std::uint32_t step) const;

  static std::uint32_t step_of(std::uint64_t claim) {
    return static_cast<std::uint32_t>(claim >> 32);
  }

  Description description_ = {};
  // Counters on cache lines of their own: threads spin on them.
  alignas(64) std::atomic<std::uint64_t> claim_{0};    // current step << 32 | next item of it
  alignas(64) std::atomic<std::uint64_t> done_{0};     // items of the current step that are done
  alignas(64) std::atomic<std::uint32_t> jobs_{0};     // begun so far; threads sleep on it
  alignas(64) std::atomic<std::uint32_t> copying_{0};  // threads copying the description; kOpen
  std::atomic<std::uint32_t> inside_{0};  // threads that have a copy and are not through with it
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

inline unsigned Worker::threads() const {
  return pool_.size();
}

template <typename Function>
void Worker::share(std::size_t count, Function&& function) {
  if (count == 0) return;
  if (pool_.size() == 1) {
    for (std::size_t item = 0; item < count; ++item) function(item);
    return;
  }
  const std::uint32_t step = step_++;
  std::uint64_t claim = pool_.claim_.load(std::memory_order_acquire);
  while (ThreadPool::step_of(claim) == step) {
    const std::uint64_t item = claim & 0xffffffffU;
    if (item == count) {
      pool_.wait_for_end_of(step);
      return;
    }
    if (!pool_.claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acquire)) continue;
    function(static_cast<std::size_t>(item));
    if (pool_.done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
      // The last one: nobody counts again before the next step is opened.
      pool_.done_.store(0, std::memory_order_relaxed);
      pool_.claim_.store(std::uint64_t{step + 1} << 32, std::memory_order_release);
      return;
    }
    claim = pool_.claim_.load(std::memory_order_acquire);
  }
}

/// Cores this process may run on.
unsigned usable_cores();

}  // namespace gander
