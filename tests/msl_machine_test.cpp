#include "backend/gpu/emulated/emulated_device.h"
#include "base/error.h"
#include "tests/support/kernel_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace gander::gpu {
namespace {

using uint = std::uint32_t;
#include "tests/msl/machine.h"

constexpr std::array kOrders = {Order::Forward, Order::Reverse, Order::Shuffled};

std::vector<float> group_sums(Order order, uint threads) {
  const auto device = open_emulated_device(order);
  constexpr uint kGroups = 5;
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
    for (const uint threads : {32U, 96U, 1024U}) {
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
  for (const Order order : kOrders) {
    const std::vector<float> right = neighbours("test_barrier", order);
    for (uint i = 0; i < 64; ++i) EXPECT_EQ(right[i], static_cast<float>((i + 1) % 64));
    const std::vector<float> wrong = neighbours("test_missing_barrier", order);
    EXPECT_TRUE(std::any_of(wrong.begin(), wrong.end(), [](float x) { return std::isnan(x); }));
  }
}

std::string error_of(std::string_view kernel) {
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
  EXPECT_EQ(error_of("test_divergent_barriers"),
            "kernel test_divergent_barriers, group 0 0 0: threads wait at different barriers: "
            "thread 0 waits at tests/msl/machine.metal:56, thread 32 waits at "
            "tests/msl/machine.metal:58");
  EXPECT_EQ(error_of("test_left_barrier"),
            "kernel test_left_barrier, group 0 0 0: threads wait at a barrier that others never "
            "reach: thread 0 waits at tests/msl/machine.metal:67, thread 63 has left the kernel");
  EXPECT_EQ(error_of("test_divergent_lanes"),
            "kernel test_divergent_lanes, group 0 0 0: lanes of a SIMD group wait at different "
            "places: thread 0 waits at tests/msl/machine.metal:76, thread 16 waits at "
            "tests/msl/machine.metal:78");
  // The machine works on after that.
  EXPECT_EQ(group_sums(Order::Forward, 32).front(), 6006.5F);
}

}  // namespace
}  // namespace gander::gpu
