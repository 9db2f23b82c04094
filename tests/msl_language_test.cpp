#include "backend/gpu/emulated/emulated_device.h"
#include "base/error.h"
#include "base/half.h"
#include "tests/support/kernel_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

namespace gander::gpu {
namespace {

constexpr std::uint32_t kLanes = 32;

class MslLanguage : public testing::TestWithParam<Order> {
 protected:
  std::unique_ptr<Device> device_ = open_emulated_device(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Orders, MslLanguage,
                         testing::Values(Order::Forward, Order::Reverse, Order::Shuffled));

template <class T>
auto at(std::vector<T>& all, std::uint32_t function) {
  return std::span(all).subspan(std::size_t{function} * kLanes, kLanes);
}

TEST_P(MslLanguage, SimdFunctions) {
  std::vector<float> in(kLanes);
  for (std::uint32_t i = 0; i < kLanes; ++i) in[i] = static_cast<float>((i * 13) % 32) + 1.0F;
  std::vector<float> out(14 * kLanes);
  std::vector<std::uint32_t> bits(8 * kLanes);
  KernelRun run(*device_, "test_simd_functions");
  run.in(in);
  run.out(out);
  run.out(bits);
  run.launch({1, 1}, kLanes);

  std::uint32_t all_and = ~0U, all_or = 0, all_xor = 0;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    all_and &= lane * 7 + 1;
    all_or |= lane * 7 + 1;
    all_xor ^= lane * 7 + 1;
  }
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    SCOPED_TRACE(lane);
    const float before = std::accumulate(in.begin(), in.begin() + lane, 0.0F);
    EXPECT_EQ(at(out, 0)[lane], 528.0F);
    EXPECT_EQ(at(out, 1)[lane], 32.0F);
    EXPECT_EQ(at(out, 2)[lane], 1.0F);
    EXPECT_EQ(at(out, 3)[lane], in[0] * in[1] * in[2]);
    EXPECT_EQ(at(out, 4)[lane], before + in[lane]);
    EXPECT_EQ(at(out, 5)[lane], before);
    EXPECT_EQ(at(out, 6)[lane], in[5]);
    EXPECT_EQ(at(out, 7)[lane], in[31 - lane]);
    EXPECT_EQ(at(out, 8)[lane], in[lane ^ 3U]);
    EXPECT_EQ(at(out, 9)[lane], in[lane >= 2 ? lane - 2 : lane]);
    EXPECT_EQ(at(out, 10)[lane], in[lane < 28 ? lane + 4 : lane]);
    EXPECT_EQ(at(out, 11)[lane], in[(lane + 1) % 32]);
    EXPECT_EQ(at(out, 12)[lane], in[0]);
    EXPECT_EQ(at(out, 13)[lane], 32.0F);
    EXPECT_EQ(at(bits, 0)[lane], all_and);
    EXPECT_EQ(at(bits, 1)[lane], all_or);
    EXPECT_EQ(at(bits, 2)[lane], all_xor);
    EXPECT_EQ(at(bits, 3)[lane], 0x49249249U);
    EXPECT_EQ(at(bits, 4)[lane], 1U);
    EXPECT_EQ(at(bits, 5)[lane], 1U);
    EXPECT_EQ(at(bits, 6)[lane], 0U);
    EXPECT_EQ(at(bits, 7)[lane], lane == 0 ? 1U : 0U);
  }
}

TEST_P(MslLanguage, LanesThatLeftTheKernelTakeNoPart) {
  std::vector<float> out(kLanes);
  KernelRun run(*device_, "test_lanes_that_left");
  run.out(out);
  run.launch({1, 1}, kLanes);
  for (std::uint32_t lane = 1; lane < kLanes; lane += 2) {
    EXPECT_EQ(out[lane], lane == 1 ? 116.0F : 16.0F);
  }
  EXPECT_TRUE(std::isnan(out[0]));
}

float rounded(float value) {
  return half_to_float(float_to_half(value));
}

TEST_P(MslLanguage, HalvesAreRoundedAfterEveryOperation) {
  const float a = rounded(1.2345F);
  const float b = rounded(317.7F);
  const std::vector<std::uint16_t> in = {float_to_half(a), float_to_half(b)};
  std::vector<std::uint16_t> out(8);
  std::vector<float> wide(4);
  KernelRun run(*device_, "test_half");
  run.in(in);
  run.out(out);
  run.out(wide);
  run.launch({1, 1}, kLanes);
  const auto expect = [&](int i, float value) {
    EXPECT_EQ(out[i], float_to_half(value)) << i << ": " << half_to_float(out[i]);
  };
  expect(0, a + b);
  expect(1, a * b);
  expect(2, a / b);
  expect(3, a - 1.0F);
  expect(4, -a);
  EXPECT_EQ(out[5], 0x7c00);
  expect(6, b);
  expect(7, 2.0F * rounded(a + b));
  EXPECT_EQ(wide[0], a * 0.1F);
  EXPECT_EQ(wide[1], a * b);
  EXPECT_EQ(wide[2], 1.0F);
  EXPECT_EQ(wide[3], a + b);
}

TEST_P(MslLanguage, VectorsAndTheirSwizzles) {
  const std::vector<float> in = {1.0F, 2.0F, 3.0F, 4.0F};
  const std::vector<float> packed = {0, 0, 0, 0, 1.0F, 2.0F, 3.0F, 0.5F};
  std::vector<float> out(14);
  std::vector<std::uint32_t> bits(5);
  KernelRun run(*device_, "test_vectors");
  run.in(in);
  run.in(packed);
  run.out(out);
  run.out(bits);
  run.launch({1, 1}, kLanes);
  EXPECT_THAT(std::vector(out.begin(), out.begin() + 12),
              testing::ElementsAre(4, 30, 5, 7, 4, 7, 6, 5, 1, 2, 6.5F, 12 + 16 + 8));
  EXPECT_FLOAT_EQ(out[12], std::exp(1.0F) + 3.0F);
  EXPECT_EQ(out[13], 7.0F);
  EXPECT_THAT(bits, testing::ElementsAre(0x3f800000U, 0U, 16U, 41U, 65535U + 4464U));
}

TEST_P(MslLanguage, FunctionsOfNumbers) {
  const float x = 1.75F;
  const std::vector<float> in = {x, std::nanf("")};
  std::vector<float> out(12);
  std::vector<std::uint32_t> bits(8);
  KernelRun run(*device_, "test_numbers");
  run.out(out);
  run.out(bits);
  run.in(in);
  run.launch({1, 1}, kLanes);
  const std::vector<float> expected = {std::exp(x),
                                       std::exp2(x),
                                       std::log(x),
                                       std::tanh(x),
                                       1.0F / std::sqrt(x),
                                       x * x * x,
                                       2 * x + 1,
                                       std::exp(x) + std::log2(x),
                                       2 * x,
                                       -2 + 2 - 1 + 2,
                                       -1 + 1 + 2 + 1,
                                       1};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_FLOAT_EQ(out[i], expected[i]) << i;
  // 0x123456789abcdef0 · 0xfedcba9876543210 has 0x121fa00ad77d7422 as its upper half.
  EXPECT_THAT(bits, testing::ElementsAre(8 + 31 + 3 + 32, 3, 0xd77d7422U, 0x121fa00aU, 0x18U,
                                         0x80000000U + 0xbcU, 5 + 2 + 7, 0x3f800000U));
}

TEST_P(MslLanguage, Atomics) {
  std::vector<std::uint32_t> words = {0, 0, 100, 0, ~0U, 0, 64, 0, 0};
  std::vector<std::uint32_t> seen(64);
  KernelRun run(*device_, "test_atomics");
  run.in_out(words);
  run.out(seen);
  run.launch({1, 1}, 64);
  EXPECT_THAT(words, testing::ElementsAre(2016, ~0U, 5, 68, ~63U, 0, 0, 64, 78));
  std::sort(seen.begin(), seen.end());
  for (std::uint32_t i = 0; i < 64; ++i) EXPECT_EQ(seen[i], i);
}

TEST_P(MslLanguage, SimdgroupMatrices) {
  std::vector<std::uint16_t> a(64);
  std::vector<float> b(64);
  std::vector<float> c(16 * 9, 0.5F);
  std::vector<float> scaled(64);
  for (int i = 0; i < 64; ++i) {
    a[i] = float_to_half(static_cast<float>(i % 7) - 3.0F);
    b[i] = static_cast<float>(i % 5) - 1.0F;
  }
  KernelRun run(*device_, "test_matrices");
  run.in(a);
  run.in(b);
  run.in_out(c);
  run.out(scaled);
  run.launch({1, 1}, kLanes);
  for (int row = 0; row < 8; ++row) {
    for (int column = 0; column < 8; ++column) {
      float sum = 0.5F;
      for (int k = 0; k < 8; ++k) sum += half_to_float(a[k * 8 + row]) * b[k * 8 + column];
      EXPECT_EQ(c[(row + 1) * 16 + 8 + column], sum);
      EXPECT_EQ(scaled[row * 8 + column], 2.0F * b[row * 8 + column]);
    }
  }
  EXPECT_EQ(c[0], 0.5F);
}

TEST_P(MslLanguage, KernelTemplatesAndPositions) {
  std::vector<float> floats(2 * 3 * 32);
  std::vector<std::int32_t> ints(floats.size());
  KernelRun run(*device_, "test_template_float");
  run.out(floats);
  run.launch({3, 2}, kLanes);
  KernelRun run_ints(*device_, "test_template_int");
  run_ints.out(ints);
  run_ints.launch({3, 2}, kLanes);
  for (int y = 0; y < 2; ++y) {
    for (int x = 0; x < 96; ++x) {
      EXPECT_EQ(floats[y * 96 + x], static_cast<float>(3 * x + y + 1000 * (x % 32)));
      EXPECT_EQ(ints[y * 96 + x], 5 * x + y + 1000 * (x % 32));
    }
  }
}

}  // namespace
}  // namespace gander::gpu
