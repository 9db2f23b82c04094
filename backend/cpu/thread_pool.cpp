#include "backend/cpu/thread_pool.h"

#include <algorithm>

#ifdef __linux__
#include <sched.h>
#endif

namespace gander {

namespace {

// Spins this often before it yields: about 20 to 100 microseconds, several stages' length.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Waits until `counter` is no longer `old`.
void spin_while_equal(const std::atomic<std::uint32_t>& counter, std::uint32_t old) {
  for (int spins = 0; counter.load(std::memory_order_acquire) == old;) {
    if (spins < kSpins) {
      ++spins;
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  workers_.reserve(threads - 1);
  for (unsigned index = 1; index < threads; ++index) {
    workers_.emplace_back([this, index] { work(index); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(Job job, void* context) {
  job_ = job;
  context_ = context;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  job(context, 0);
  barrier();
}

void ThreadPool::barrier() {
  if (workers_.empty()) return;
  const std::uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
  } else {
    spin_while_equal(phase_, phase);
  }
}

void ThreadPool::work(unsigned index) {
  for (std::uint32_t seen = 0;;) {
    generation_.wait(seen, std::memory_order_acquire);
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    job_(context_, index);
    barrier();
  }
}

unsigned usable_cores() {
#ifdef __linux__
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
    return std::max(1U, static_cast<unsigned>(CPU_COUNT(&cores)));
  }
#endif
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace gander
