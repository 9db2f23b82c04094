#include "backend/gpu/emulated/emulated_device.h"
#include "backend/gpu/emulated/sanitizers.h"
#include "base/error.h"
#include "tests/support/kernel_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

namespace gander::gpu {
namespace {

using uint = std::uint32_t;
#include "tests/msl/machine.h"

// A GPU thread costs the thread sanitizer milliseconds.
constexpr uint kMostThreads = GANDER_THREAD_SANITIZER ? 64 : 1024;
constexpr uint kGroups = GANDER_THREAD_SANITIZER ? 2 : 5;
constexpr std::array kOrders = {Order::Forward, Order::Reverse, Order::Shuffled};

std::vector<float> group_sums(Order order, uint threads) {
  const auto device = open_emulated_device(order);
  TestParameters parameters = {};
  parameters.per_group = 77;
  std::vector<float> in(kGroups * parameters.per_group);
  std::iota(in.begin(), in.end(), 1.0F);
  std::vector<float> out(kGroups);
  KernelRun run(*device, "test_group_sum");
  run.constant(GANDER_TEST_SCALE, 2U);
  run.constant(GANDER_TEST_BIAS, 0.5F);
  run.in(in);
  run.out(out);
  run.parameters(parameters);
  run.launch({kGroups, 1}, threads, threads / 32 * 16);
  return out;
}

TEST(MslMachine, SumsOverAThreadGroupInEveryOrder) {
  for (const Order order : kOrders) {
    for (const uint threads : {32U, 96U, kMostThreads}) {
      const std::vector<float> out = group_sums(order, threads);
      for (uint group = 0; group < out.size(); ++group) {
        const float first = 1.0F + 77.0F * static_cast<float>(group);
        EXPECT_EQ(out[group], 2.0F * (77.0F * first + 77.0F * 38.0F) + 0.5F);
      }
    }
  }
}

std::vector<float> neighbours(std::string_view kernel, Order order) {
  const auto device = open_emulated_device(order);
  std::vector<float> out(64);
  KernelRun run(*device, kernel);
  run.out(out);
  run.launch({1, 1}, 64);
  return out;
}

TEST(MslMachine, AMissingBarrierReadsNaNs) {
  if (GANDER_THREAD_SANITIZER) GTEST_SKIP() << "a race; the sanitizer's test is below";
  for (const Order order : kOrders) {
    const std::vector<float> right = neighbours("test_barrier", order);
    for (uint i = 0; i < 64; ++i) EXPECT_EQ(right[i], static_cast<float>((i + 1) % 64));
    const std::vector<float> wrong = neighbours("test_missing_barrier", order);
    EXPECT_TRUE(std::any_of(wrong.begin(), wrong.end(), [](float x) { return std::isnan(x); }));
  }
}

std::string error_of_running(std::string_view kernel) {
  const auto device = open_emulated_device();
  std::vector<float> out(64);
  KernelRun run(*device, kernel);
  run.out(out);
  try {
    run.launch({1, 1}, 64);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(MslMachine, SaysWhereThreadsWaitForEachOtherInVain) {
  EXPECT_EQ(error_of_running("test_divergent_barriers"),
            "kernel test_divergent_barriers, group 0 0 0: threads wait at different barriers: "
            "thread 0 waits at tests/msl/machine.metal:56, thread 32 waits at "
            "tests/msl/machine.metal:58");
  EXPECT_EQ(error_of_running("test_left_barrier"),
            "kernel test_left_barrier, group 0 0 0: threads wait at a barrier that others never "
            "reach: thread 0 waits at tests/msl/machine.metal:67, thread 63 has left the kernel");
  EXPECT_EQ(error_of_running("test_divergent_lanes"),
            "kernel test_divergent_lanes, group 0 0 0: lanes of a SIMD group wait at different "
            "places: thread 0 waits at tests/msl/machine.metal:76, thread 16 waits at "
            "tests/msl/machine.metal:78");
  // The machine works on after that.
  EXPECT_EQ(group_sums(Order::Forward, 32).front(), 6006.5F);
}

struct RaceOf {
  bool threads = false, groups = false;
};

void run_race(RaceOf race) {
  const auto device = open_emulated_device();
  std::vector<uint> plain(2);
  std::vector<uint> counter(1);
  TestParameters parameters = {};
  parameters.race_of_threads = race.threads ? 1 : 0;
  parameters.race_of_groups = race.groups ? 1 : 0;
  KernelRun run(*device, "test_race");
  run.out(plain);
  run.in_out(counter);
  run.parameters(parameters);
  run.launch({3, 1}, 64);
  EXPECT_EQ(counter[0], 3U * 64U);
}

TEST(MslMachine, AtomicsCountEveryThread) {
  run_race({});
}

void write_past(uint scratch, uint buffer) {
  const auto device = open_emulated_device();
  std::vector<float> out(32);
  TestParameters parameters = {};
  parameters.past_scratch = scratch;
  parameters.past_buffer = buffer;
  KernelRun run(*device, "test_write");
  run.out(out);
  run.parameters(parameters);
  run.launch({1, 1}, 32, 32 * sizeof(float));
  EXPECT_EQ(out, std::vector<float>(32, 1.0F));
}

TEST(MslMachine, BuffersAndGroupMemoryMayBeUsedToTheirEnds) {
  write_past(0, 0);
}

#if GANDER_ADDRESS_SANITIZER

TEST(MslMachineDeathTest, TheAddressSanitizerSeesTheEndsOfBuffersAndGroupMemory) {
  EXPECT_DEATH(write_past(1, 0), "heap-buffer-overflow(.|\n)*machine.metal:88");
  EXPECT_DEATH(write_past(0, 1), "heap-buffer-overflow(.|\n)*machine.metal:89");
}

#endif
#if GANDER_THREAD_SANITIZER

// The sanitizer changes the exit code of a process that had a race.
int exit_code_of_race(RaceOf race) {
  run_race(race);
  return 0;
}

TEST(MslMachineDeathTest, TheThreadSanitizerSeesRacesOfThreadsAndOfGroups) {
  constexpr int kRaces = 66;
  EXPECT_EXIT(std::exit(exit_code_of_race({.threads = true, .groups = false})),
              testing::ExitedWithCode(kRaces), "data race(.|\n)*machine.metal:98");
  EXPECT_EXIT(std::exit(exit_code_of_race({.threads = false, .groups = true})),
              testing::ExitedWithCode(kRaces), "data race(.|\n)*machine.metal:99");
  EXPECT_EXIT(std::exit(exit_code_of_race({})), testing::ExitedWithCode(0), "");
}

TEST(MslMachineDeathTest, TheThreadSanitizerSeesAMissingBarrier) {
  constexpr int kRaces = 66;
  EXPECT_EXIT(neighbours("test_missing_barrier", Order::Forward);
              std::exit(0), testing::ExitedWithCode(kRaces), "data race(.|\n)*machine.metal:39");
  EXPECT_EXIT(neighbours("test_barrier", Order::Forward);
              std::exit(0), testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace gander::gpu
