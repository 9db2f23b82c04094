#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/thread_pool.h"
#include "model/config.h"

namespace gander {
namespace {

// Arguments from far below to far above what a model produces, special values among them.
std::vector<float> arguments() {
  std::vector<float> x;
  for (int i = -9231; i <= 9231; ++i) x.push_back(0.013F * static_cast<float>(i));
  for (const float value : {0.0F, -0.0F, 1e-20F, -1e-20F, 1e30F, -1e30F}) x.push_back(value);
  return x;
}

TEST(CpuKernels, SigmoidAndDecayAreAccurate) {
  const std::vector<float> x = arguments();
  const std::vector<float> bias(x.size(), 0.25F);
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    std::vector<float> sigmoid = x;
    std::vector<float> decay = x;
    (*kernels)->sigmoid(sigmoid.data(), bias.data(), x.size());
    (*kernels)->decay(decay.data(), bias.data(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = 1 / (1 + std::exp(-(static_cast<double>(x[i] + 0.25F))));
      ASSERT_NEAR(sigmoid[i], expected, 3e-7 * expected + 1e-37) << x[i];
      const double expected_decay = std::exp(-kDecayScale * expected);
      ASSERT_NEAR(decay[i], expected_decay, 2e-7) << x[i];
    }
  }
}

TEST(CpuKernels, TanhIsAccurate) {
  std::vector<float> x = arguments();
  // A matrix of one column: y = W x with x = 1 applies the epilogue to the weights themselves.
  const float one = 1;
  x.resize(x.size() / 32 * 32);
  PackedMatrix matrix =
      describe_packed({DataType::F32, static_cast<std::uint32_t>(x.size()), 1, nullptr});
  matrix.data = reinterpret_cast<std::byte*>(x.data());
  std::vector<float> y(x.size());
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    (*kernels)->packed_tiles({matrix, &one, {}, 1, y.data(), y.size(), Epilogue::Tanh, nullptr}, 0,
                             matrix.tiles);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(y[i], std::tanh(static_cast<double>(x[i])), 2e-7) << x[i];
    }
  }
}

TEST(CpuKernels, KeyOfZerosStaysFinite) {
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    std::vector<float> k(64);
    std::vector<float> kk(64, 1.0F);
    const std::vector<float> ones(64, 1.0F);
    (*kernels)->keys(k.data(), ones.data(), ones.data(), ones.data(), 64, kk.data());
    EXPECT_EQ(kk, std::vector<float>(64));
  }
}

TEST(ThreadPool, EveryItemIsDoneOnceBeforeTheNextStep) {
  for (const unsigned threads : {1U, 2U, 5U}) {
    ThreadPool pool(threads);
    std::array<std::atomic<int>, 37> calls = {};
    std::atomic<int> early = 0;
    for (int run = 0; run < 20; ++run) {
      pool.run([&calls, &early, run](Worker& worker) {
        for (int step = 0; step < 50; ++step) {
          // Steps of 1 to 37 items; an item sees those of the step before.
          const std::size_t count = 1 + (step * 7 + run) % calls.size();
          worker.share(calls.size(), [&](std::size_t item) { ++calls[item]; });
          worker.share(count, [&](std::size_t) {
            for (const std::atomic<int>& other : calls) {
              if (other != run * 50 + step + 1) ++early;
            }
          });
          worker.share(0, [&](std::size_t) { ++early; });
        }
      });
    }
    EXPECT_EQ(early, 0) << threads << " threads";
    for (const std::atomic<int>& count : calls) EXPECT_EQ(count, 1000);
  }
}

// A thread whose core is taken between two steps must not hold up the others.
TEST(ThreadPool, WaitsForWorkNotForThreads) {
  ThreadPool pool(2);
  std::atomic<bool> joined = false;
  std::atomic<bool> finished = false;
  std::atomic<bool> waited_for = false;
  std::atomic<bool> left = false;
  std::atomic<int> sum = 0;
  pool.run([&](Worker& worker) {
    worker.share(4, [&](std::size_t) { ++sum; });
    if (worker.index() == 1) {
      joined = true;
      const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (!finished && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
      waited_for = !finished;
    } else {
      while (!joined) std::this_thread::yield();
    }
    for (int step = 0; step < 10; ++step) worker.share(4, [&](std::size_t) { ++sum; });
    if (worker.index() == 1) left = true;
  });
  EXPECT_EQ(sum, 44);
  finished = true;
  // The late thread goes through its old steps while the next job is under way.
  for (int run = 0; run < 1000 || !left; ++run) {
    pool.run([&](Worker& worker) { worker.share(2, [&](std::size_t) { ++sum; }); });
    EXPECT_EQ(sum, 46 + 2 * run);
  }
  EXPECT_FALSE(waited_for);
}

}  // namespace
}  // namespace gander
