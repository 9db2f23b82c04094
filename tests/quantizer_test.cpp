#include "model/quant/quantizer.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "base/half.h"
#include "model/quant/blocks.h"

namespace gander {
namespace {

using Values = std::vector<float>;

Values decoded(DataType type, const std::vector<std::byte>& bytes, std::size_t count) {
  Values values(count);
  dequantize(type, bytes.data(), values);
  return values;
}

Values nearest(DataType type, const Values& values) {
  std::vector<std::byte> bytes(row_bytes(type, values.size()));
  quantize(type, values, bytes);
  return decoded(type, bytes, values.size());
}

Values weighted(DataType type, const Values& values, const Values& importance = {}) {
  std::vector<std::byte> bytes(row_bytes(type, values.size()));
  quantize_weighted(type, values, importance, bytes);
  return decoded(type, bytes, values.size());
}

/// What quantize_weighted is to make small, of weights begin..end, which are one search.
double error_of(const Values& values, const Values& rounded, const Values& importance,
                std::size_t begin, std::size_t end) {
  double mean = 0;
  for (std::size_t i = begin; i < end; ++i) mean += double{values[i]} * values[i] / 256;
  double error = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const double weight = std::sqrt(mean + double{values[i]} * values[i]);
    const double difference = double{values[i]} - rounded[i];
    error += (importance.empty() ? 1 : importance[i]) * weight * difference * difference;
  }
  return error;
}

double error_of(const Values& values, const Values& rounded, const Values& importance = {}) {
  double error = 0;
  for (std::size_t i = 0; i < values.size(); i += 256) {
    error += error_of(values, rounded, importance, i, std::min(i + 256, values.size()));
  }
  return error;
}

/// 64 blocks of 256 of several kinds.
struct Kind {
  const char* name;
  std::function<float(std::mt19937&, std::size_t)> draw;
};

float normal(std::mt19937& random) {
  return std::normal_distribution<float>(0, 0.02F)(random);
}

std::vector<Kind> kinds() {
  return {
      {"normal", [](auto& random, auto) { return normal(random); }},
      {"heavy tails",
       [](auto& random, auto) {
         const float x = normal(random);
         return x * x * x * 2e3F;
       }},
      {"groups of different size",
       [](auto& random, auto i) {
         return normal(random) * static_cast<float>(1U << (i / 16 % 8));
       }},
      {"positive", [](auto& random, auto) { return 0.1F + std::fabs(normal(random)); }},
      {"negative", [](auto& random, auto) { return -0.1F + normal(random); }},
      {"mostly zero", [](auto& random, auto i) { return i % 7 == 0 ? normal(random) : 0.0F; }},
      {"two values", [](auto& random, auto) { return random() % 2 == 0 ? -0.3F : 0.1F; }},
      {"one outlier", [](auto& random, auto i) { return i % 256 == 77 ? 1.0F : normal(random); }},
      {"tiny", [](auto& random, auto) { return normal(random) * 1e-4F; }},
      {"huge", [](auto& random, auto) { return normal(random) * 5e5F; }}};
}

Values draw(const Kind& kind, std::size_t count = 64 * 256) {
  std::mt19937 random(5);
  Values values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = kind.draw(random, i);
  return values;
}

Values uneven_importance(std::size_t count) {
  std::mt19937 random(6);
  Values importance(count);
  for (float& value : importance) value = std::exp(std::normal_distribution<float>(0, 1)(random));
  return importance;
}

// 32-bit halves of a linear congruential generator: the same on every machine.
Values portable_values(std::size_t count, std::uint64_t state = 1) {
  Values values(count);
  for (float& value : values) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      sum += static_cast<float>(static_cast<std::int32_t>(state >> 32)) * 0x1p-37F;
    }
    value = sum;
  }
  return values;
}

constexpr DataType kTypes[] = {DataType::Q8_0, DataType::Q4_0, DataType::Q4_K, DataType::Q5_K,
                               DataType::Q6_K};

class Quantizer : public ::testing::TestWithParam<DataType> {};

TEST_P(Quantizer, IsNeverWorseThanRoundingToNearest) {
  for (const Kind& kind : kinds()) {
    const Values values = draw(kind);
    for (const Values& importance : {Values(), uneven_importance(values.size())}) {
      const Values searched = weighted(GetParam(), values, importance);
      const Values simple = nearest(GetParam(), values);
      for (std::size_t i = 0; i < values.size(); i += 256) {
        ASSERT_LE(error_of(values, searched, importance, i, i + 256),
                  error_of(values, simple, importance, i, i + 256) * (1 + 1e-5))
            << kind.name << ", block " << i / 256;
      }
    }
  }
}

TEST_P(Quantizer, TakesWhatRoundingToNearestFindsByLuck) {
  // An outlier in each group, and the two seeds of 60,000 where it was ahead by most in Q4_K and
  // Q5_K: 1 and 8 %.
  for (const std::uint64_t seed : {7833U, 28071U}) {
    Values values = portable_values(256, seed);
    for (std::size_t i = 0; i < values.size(); i += 32) values[i] *= 30;
    EXPECT_LE(error_of(values, weighted(GetParam(), values)),
              error_of(values, nearest(GetParam(), values)) * (1 + 1e-5));
  }
}

TEST_P(Quantizer, LosesNothingWhereRoundingToNearestIsExact) {
  // Between the smallest and the largest weight of each group in even steps.
  std::mt19937 random(8);
  Values values(64 * 256);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int level = i % 16 == 0 ? 0 : i % 16 == 1 ? 15 : static_cast<int>(random() % 16);
    values[i] = 0x1p-6F * static_cast<float>(level - 8);
  }
  EXPECT_LE(error_of(values, weighted(GetParam(), values)),
            error_of(values, nearest(GetParam(), values)));
}

TEST_P(Quantizer, KeepsBlocksWhoseScaleWouldUnderflow) {
  Values values = draw(kinds().front());
  for (float& value : values) value *= 5e-5F;  // about 1e-6; the smallest scale is 6e-8
  EXPECT_LT(error_of(values, weighted(GetParam(), values)),
            0.03 * error_of(values, Values(values.size())));
}

TEST_P(Quantizer, IsMuchBetterOnTrainedLookingWeights) {
  const Values values = draw(kinds().front());
  for (const Values& importance : {Values(), uneven_importance(values.size())}) {
    EXPECT_LT(error_of(values, weighted(GetParam(), values, importance), importance),
              0.9 * error_of(values, nearest(GetParam(), values), importance));
  }
}

TEST_P(Quantizer, MovesTheErrorToUnimportantColumns) {
  const Values values = draw(kinds().front());
  Values importance(values.size(), 1.0F);
  for (std::size_t i = 0; i < values.size(); i += 8) importance[i] = 100;
  const auto split = [&](const Values& rounded) {
    std::pair<double, double> error;  // of the important, of the others
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double difference = double{values[i]} - rounded[i];
      (i % 8 == 0 ? error.first : error.second) += difference * difference;
    }
    return error;
  };
  const auto even = split(weighted(GetParam(), values));
  const auto uneven = split(weighted(GetParam(), values, importance));
  EXPECT_LT(uneven.first, 0.9 * even.first);
  EXPECT_GT(uneven.second, even.second);
}

TEST_P(Quantizer, FindsWhatTheFormatCanHoldExactly) {
  // Blocks of random bits, with scales that leave every level distinct.
  std::mt19937 random(7);
  std::vector<std::byte> bytes(64 * row_bytes(GetParam(), 256));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  const std::size_t block = info(GetParam()).block_bytes;
  for (std::size_t i = 0; i < bytes.size(); i += block) {
    const auto set = [&](std::size_t at, float value) {
      const std::uint16_t half = float_to_half(value);
      std::memcpy(bytes.data() + i + at, &half, 2);
    };
    set(GetParam() == DataType::Q6_K ? 208 : 0, 0.01F);
    if (GetParam() == DataType::Q4_K || GetParam() == DataType::Q5_K) set(2, 0.02F);
    if (GetParam() == DataType::Q8_0) bytes[i + 2] = std::byte{127};
    for (std::size_t j = 2; GetParam() == DataType::Q8_0 && j < block; ++j) {
      if (bytes[i + j] == std::byte{0x80}) bytes[i + j] = std::byte{0x81};
    }
  }
  const Values values = decoded(GetParam(), bytes, 64 * 256);
  const Values zeros(values.size());
  const double found = error_of(values, weighted(GetParam(), values));
  // What is left comes from groups whose scale is ambiguous under the 6-bit codes of the others.
  const double allowed = GetParam() == DataType::Q8_0 || GetParam() == DataType::Q4_0 ? 1e-9 : 2e-4;
  EXPECT_LT(found, allowed * error_of(values, zeros));
}

TEST_P(Quantizer, ExtremeBlocksStayFinite) {
  const auto check = [&](const Values& values, double tolerance) {
    const Values rounded = weighted(GetParam(), values);
    float peak = 0;
    for (const float value : values) peak = std::max(peak, std::fabs(value));
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(rounded[i], values[i], tolerance * peak) << i << " of " << peak;
    }
  };
  check(Values(256, 0.0F), 0);
  for (const float value : {0.7F, -0.7F, 65504.0F, -65504.0F}) {
    check(Values(256, value), 0.02);
    Values spike(256, 0.0F);
    spike[100] = value;
    check(spike, 0.02);
    Values halves(256, value);
    std::fill_n(halves.begin(), 128, -value);
    check(halves, 0.08);
  }
  // Smaller than the smallest scale: zero is as near as it gets.
  check(Values(256, 1e-9F), 1);
  check(Values(256, 1e-38F), 1);
}

TEST_P(Quantizer, ShortRowsAndZeroImportance) {
  const std::size_t block = info(GetParam()).block_size;
  const Values values = draw(kinds().front(), 3 * block);
  const Values all = weighted(GetParam(), values);
  EXPECT_LE(error_of(values, all), error_of(values, nearest(GetParam(), values)));
  for (const float value : weighted(GetParam(), values, Values(values.size(), 0.0F))) {
    ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(QuantizerBits, TheBitsAreTheSameEverywhere) {
  const Values values = portable_values(16 * 256);
  Values importance = portable_values(16 * 256 + 1);
  importance.erase(importance.begin());
  for (float& value : importance) value = 0.1F + value * value;
  const std::uint64_t expected[] = {15236757836763420232U, 6631792528640932143U,
                                    14079000137406563047U, 11173992304671217905U,
                                    10631519611512595298U};
  for (std::size_t i = 0; i < std::size(kTypes); ++i) {
    std::vector<std::byte> bytes(row_bytes(kTypes[i], values.size()));
    quantize_weighted(kTypes[i], values, importance, bytes);
    EXPECT_EQ(XXH64(bytes.data(), bytes.size(), 0), expected[i]) << name(kTypes[i]);
  }
}

TEST(QuantizerBits, FloatTypesAreOnlyRounded) {
  const Values values = draw(kinds().front(), 100);
  for (const DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    EXPECT_EQ(weighted(type, values, Values(100, 2.0F)), nearest(type, values));
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, Quantizer, ::testing::ValuesIn(kTypes),
                         [](const auto& p) { return std::string(name(p.param)); });

}  // namespace
}  // namespace gander
