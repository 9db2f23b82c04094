#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "backend/gpu/primitives.h"
#include "tests/support/backend_check.h"
#include "tests/support/kernel_run.h"
#include "tests/support/test_device.h"

// What tests of primitives share: each compares a kernel with its formula in double precision.
namespace gander::gpu {

using FloatVector = std::vector<float>;
using DoubleVector = std::vector<double>;

// Rounding of a few fp32 operations a value, as a share of the largest value.
inline constexpr double kExact = 5e-7;
// Sums of up to a thousand terms.
inline constexpr double kSums = 3e-6;
// Products of matrices, as a share of the sum of the absolute products. Formats with an offset
// multiply levels that are larger than the weights.
inline constexpr double kProduct = 5e-7;

inline FloatVector random_floats(std::size_t count, unsigned seed, float low = -2, float high = 2) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  FloatVector values(count);
  for (float& value : values) value = distribution(generator);
  return values;
}

inline std::span<const float> view(const FloatVector& values) {
  return values;
}

// Runs `body`, which returns what a kernel computed, with the threads of a group scheduled in three
// orders: a kernel that misses a barrier gives different results.
inline FloatVector in_all_orders(const std::function<FloatVector(Device&)>& body) {
  FloatVector first;
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    const auto device = open_test_device(order);
    const FloatVector result = body(*device);
    if (order == Order::Forward) first = result;
    EXPECT_EQ(first.size(), result.size());
    EXPECT_EQ(std::memcmp(first.data(), result.data(), first.size() * sizeof(float)), 0)
        << "order " << static_cast<int>(order);
  }
  return first;
}

inline void expect_near(const FloatVector& actual, const DoubleVector& expected, double tolerance) {
  EXPECT_LE(relative_error(std::span<const float>(actual), std::span<const double>(expected)),
            tolerance);
}

inline std::uint32_t groups(std::size_t items, std::size_t of_group) {
  return static_cast<std::uint32_t>((items + of_group - 1) / of_group);
}

inline std::uint32_t number(std::size_t count) {
  return static_cast<std::uint32_t>(count);
}

inline double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

inline double activation_of(double x, std::uint32_t activation) {
  switch (activation) {
    case GANDER_ACTIVATION_TANH:
      return std::tanh(x);
    case GANDER_ACTIVATION_SIGMOID:
      return sigmoid(x);
    case GANDER_ACTIVATION_SQUARED_RELU:
      return x > 0 ? x * x : 0;
    case GANDER_ACTIVATION_EXP:
      return std::exp(x);
    default:
      return x;
  }
}

inline constexpr std::array kActivations = {GANDER_ACTIVATION_NONE, GANDER_ACTIVATION_TANH,
                                            GANDER_ACTIVATION_SIGMOID,
                                            GANDER_ACTIVATION_SQUARED_RELU, GANDER_ACTIVATION_EXP};

}  // namespace gander::gpu
