#include <gtest/gtest.h>

#include <random>

#include "model/quant/blocks.h"
#include "tests/support/backend_check.h"
#include "tests/support/stage_runs.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"

// Stage E alone, where groups share a sum: slices, their order, zeros.
namespace gander::gpu {

namespace {

constexpr double kValueTolerance = 1e-5;

// One random matrix with all that stage E reads, and the exact result.
struct Product {
  std::vector<std::byte> bytes;
  Matrix value;
  std::vector<float> hidden, normalized, x;
  std::vector<double> expected;
};

std::vector<float> random_values(std::mt19937& random, std::size_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() % 2001) / 1000 - 1;
  return values;
}

// About one hidden unit of `one_in` is not zero.
Product random_product(DataType type, std::uint32_t channels, std::uint32_t units,
                       std::uint32_t one_in) {
  std::mt19937 random(channels + units + one_in);
  Product product;
  product.value = {type, channels, units, nullptr};
  product.bytes.resize(product.value.size());
  product.value.data = product.bytes.data();
  quantize(type, random_values(random, std::size_t{channels} * units), product.bytes);
  product.hidden = random_values(random, units);
  for (float& h : product.hidden) h = random() % one_in == 0 ? h * h : 0.0F;
  product.normalized = random_values(random, channels);
  product.x = random_values(random, channels);

  const std::vector<float> values = dequantized(product.value);
  for (std::size_t c = 0; c < channels; ++c) {
    double sum = product.x[c];
    for (std::size_t f = 0; f < units; ++f) {
      sum += static_cast<double>(values[c * units + f]) * product.hidden[f];
    }
    product.expected.push_back(sum);
  }
  return product;
}

FfnValue run(Device& device, const Product& product, FfnValueShape shape) {
  return run_ffn_value(device, product.value, product.hidden, product.normalized, product.x, shape);
}

void check(Device& device, const Product& product, FfnValueShape shape) {
  const FfnValue out = run(device, product, shape);
  EXPECT_LT((relative_error<float, double>(out.x, product.expected)), kValueTolerance);
  EXPECT_EQ(out.shift, product.normalized);
  // Ready for the next token.
  EXPECT_EQ(out.counters, std::vector<std::uint32_t>(out.counters.size()));
}

class GpuFfnValue : public testing::TestWithParam<DataType> {};

TEST_P(GpuFfnValue, SlicesAddUp) {
  const auto device = open_test_device();
  // Two tiles, the second of 44 channels; blocks of 256 units that 2 and 3 slices share unevenly.
  const std::uint32_t units = info(GetParam()).block_size == 256  ? 1280
                              : info(GetParam()).block_size == 32 ? 1184
                                                                  : 1201;
  for (const std::uint32_t one_in : {1U, 8U}) {
    const Product product = random_product(GetParam(), 300, units, one_in);
    for (const std::uint32_t slices : {1U, 2U, 3U, 8U}) {
      for (const bool adds_up : {true, false}) {
        SCOPED_TRACE(testing::Message() << slices << " slices, one in " << one_in);
        check(*device, product, {128, slices, adds_up});
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GpuFfnValue,
                         testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                         DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                         DataType::Q5_K, DataType::Q6_K),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST(GpuFfnValueTest, AnyNumberOfThreads) {
  const auto device = open_test_device();
  const Product product = random_product(DataType::Q6_K, 256, 1280, 3);
  for (const std::uint32_t threads : {32U, 96U, 256U, 1024U}) {
    SCOPED_TRACE(testing::Message() << threads << " threads");
    for (const std::uint32_t slices : {1U, 3U}) check(*device, product, {threads, slices, true});
  }
}

TEST(GpuFfnValueTest, TheSameBitsInAnyOrderAndHoweverSlicesAreAdded) {
  const Product product = random_product(DataType::F16, 300, 1201, 3);
  const FfnValue expected = run(*open_test_device(), product, {96, 3, true});
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    const auto device = open_test_device(order);
    for (const bool adds_up : {true, false}) {
      EXPECT_EQ(run(*device, product, {96, 3, adds_up}), expected);
    }
  }
}

TEST(GpuFfnValueTest, NothingIsAddedWhenAllUnitsAreZero) {
  const auto device = open_test_device();
  Product product = random_product(DataType::Q4_K, 256, 512, 2);
  product.hidden.assign(512, 0.0F);
  for (const std::uint32_t slices : {1U, 3U}) {
    EXPECT_EQ(run(*device, product, {64, slices, true}).x, product.x);
  }
}

// Rows of zero units may hold anything: they are not read.
TEST(GpuFfnValueTest, ZeroUnitsAreSkipped) {
  const auto device = open_test_device();
  const Product product = random_product(DataType::F32, 256, 300, 8);
  Product poisoned = product;
  std::vector<float> values = dequantized(product.value);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (product.hidden[i % 300] == 0) values[i] = std::numeric_limits<float>::quiet_NaN();
  }
  poisoned.value.data = reinterpret_cast<const std::byte*>(values.data());
  EXPECT_EQ(run(*device, poisoned, {}), run(*device, product, {}));
}

}  // namespace

}  // namespace gander::gpu
