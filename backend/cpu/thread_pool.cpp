#include "backend/cpu/thread_pool.h"

#include <algorithm>

#ifdef __linux__
#include <sched.h>
#endif

namespace gander {

namespace {

// Spins this often before it yields: about 20 to 100 microseconds, several steps' length.
constexpr int kSpins = 2000;
// Set in copying_ while a job may be joined.
constexpr std::uint32_t kOpenBit = 1U << 31;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

}  // namespace

ThreadPool::ThreadPool(unsigned threads) {
  threads_.reserve(threads - 1);
  // A thread looks at size(): all of them exist before the first job begins.
  for (unsigned index = 1; index < threads; ++index) {
    threads_.emplace_back([this, index] { work(index); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  jobs_.fetch_add(1, std::memory_order_release);
  jobs_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::begin(const Description& description) {
  if (threads_.empty()) return;
  description_ = description;
  description_.first_step = step_of(claim_.load(std::memory_order_relaxed));
  copying_.store(kOpenBit, std::memory_order_release);
  jobs_.fetch_add(1, std::memory_order_release);
  jobs_.notify_all();
}

// Threads that have their copy may go on for a while; they find all steps over.
void ThreadPool::end() {
  if (threads_.empty()) return;
  copying_.fetch_and(~kOpenBit, std::memory_order_relaxed);
  while (copying_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void ThreadPool::settle() const {
  while (inside_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

void ThreadPool::work(unsigned index) {
  for (std::uint32_t seen = 0;;) {
    std::uint32_t jobs = jobs_.load(std::memory_order_acquire);
    for (int spins = 0; jobs == seen && spins < kSpins; ++spins) {
      pause();
      jobs = jobs_.load(std::memory_order_acquire);
    }
    if (jobs == seen) {
      jobs_.wait(seen, std::memory_order_acquire);
      continue;
    }
    seen = jobs;
    if (stopping_.load(std::memory_order_relaxed)) return;

    std::uint32_t copying = copying_.load(std::memory_order_acquire);
    while ((copying & kOpenBit) != 0) {
      if (!copying_.compare_exchange_weak(copying, copying + 1, std::memory_order_acquire))
        continue;
      Description description = description_;
      inside_.fetch_add(1, std::memory_order_relaxed);
      copying_.fetch_sub(1, std::memory_order_release);
      Worker worker(*this, index, description.first_step);
      description.call(description.job, worker);
      inside_.fetch_sub(1, std::memory_order_release);
      break;
    }
  }
}

void ThreadPool::wait_for_end_of(std::uint32_t step) const {
  for (int spins = 0; step_of(claim_.load(std::memory_order_acquire)) == step;) {
    if (spins < kSpins) {
      ++spins;
      pause();
    } else {
      std::this_thread::yield();
    }
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
