#include "base/bandwidth.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <thread>
#include <vector>

#ifdef __APPLE__
#include <sys/sysctl.h>
#else
#include <fstream>
#include <string>
#endif

#include "base/memory.h"

namespace gander {
namespace {

constexpr std::uint64_t kAssumedCache = std::uint64_t{32} << 20;

// Sum of a slice: eight independent chains, so that the loop waits for memory and nothing else.
std::uint64_t sum(const std::uint64_t* data, std::size_t count) {
  std::array<std::uint64_t, 8> sums{};
  for (std::size_t i = 0; i + sums.size() <= count; i += sums.size()) {
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += data[i + k];
  }
  std::uint64_t total = 0;
  for (const std::uint64_t part : sums) total += part;
  return total;
}

}  // namespace

std::uint64_t last_level_cache_bytes() {
  std::uint64_t largest = 0;
#ifdef __APPLE__
  for (const char* name : {"hw.l2cachesize", "hw.perflevel0.l2cachesize", "hw.l3cachesize"}) {
    std::uint64_t value = 0;
    std::size_t size = sizeof(value);
    if (::sysctlbyname(name, &value, &size, nullptr, 0) == 0) largest = std::max(largest, value);
  }
#else
  for (int index = 0; index < 8; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    std::uint64_t value = 0;
    char unit = ' ';
    if (!(file >> value)) break;
    if (file >> unit) value <<= unit == 'M' ? 20 : unit == 'K' ? 10 : 0;
    largest = std::max(largest, value);
  }
#endif
  return largest;
}

// Not value-initialised: each thread touches its slice first, so that its pages lie near it.
BandwidthProbe::BandwidthProbe(unsigned threads) : threads_(threads) {
  const std::uint64_t cache = last_level_cache_bytes();
  std::uint64_t bytes =
      std::max<std::uint64_t>(4 * (cache != 0 ? cache : kAssumedCache), std::uint64_t{256} << 20);
  if (const std::uint64_t available = available_memory(); available != 0) {
    bytes = std::min(bytes, available / 2);
  }
  slice_ = bytes / sizeof(std::uint64_t) / threads;
  data_.reset(new std::uint64_t[slice_ * threads]);
}

double BandwidthProbe::measure(int passes) {
  std::atomic<std::uint64_t> sink{0};
  std::vector<std::chrono::steady_clock::time_point> times;
  times.reserve(static_cast<std::size_t>(passes) + 1);
  std::barrier barrier(static_cast<std::ptrdiff_t>(threads_),
                       [&]() noexcept { times.push_back(std::chrono::steady_clock::now()); });
  const auto work = [&](unsigned index) {
    std::uint64_t* own = data_.get() + slice_ * index;
    if (!touched_) std::fill(own, own + slice_, index);
    barrier.arrive_and_wait();
    for (int pass = 0; pass < passes; ++pass) {
      sink += sum(own, slice_);
      barrier.arrive_and_wait();
    }
  };
  std::vector<std::thread> others;
  for (unsigned index = 1; index < threads_; ++index) others.emplace_back(work, index);
  work(0);
  for (std::thread& other : others) other.join();
  touched_ = true;

  double best = 0;
  for (std::size_t pass = 0; pass + 1 < times.size(); ++pass) {
    const double seconds = std::chrono::duration<double>(times[pass + 1] - times[pass]).count();
    best = std::max(best, static_cast<double>(buffer_bytes()) / seconds);
  }
  return best;
}

}  // namespace gander
