#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "model/quant/blocks.h"

namespace gander {
namespace {

// The formats once more, weight by weight from their descriptions in docs/formats.md.
float weight_by_definition(DataType type, const std::uint8_t* b, int j) {
  const auto half_at = [&](int offset) {
    return half_to_float(static_cast<std::uint16_t>(b[offset] | (b[offset + 1] << 8)));
  };
  const auto six_bit = [&](const std::uint8_t* s, int g, bool minimum) {
    if (g < 4) return (minimum ? s[g + 4] : s[g]) & 63;
    return minimum ? (s[g + 4] >> 4) | ((s[g] >> 6) << 4)
                   : (s[g + 4] & 15) | ((s[g - 4] >> 6) << 4);
  };
  switch (type) {
    case DataType::Q4_0: {
      const int q = j < 16 ? b[2 + j] & 15 : b[2 + j - 16] >> 4;
      return half_at(0) * static_cast<float>(q - 8);
    }
    case DataType::Q8_0:
      return half_at(0) * static_cast<float>(static_cast<std::int8_t>(b[2 + j]));
    case DataType::Q4_K:
    case DataType::Q5_K: {
      const bool five = type == DataType::Q5_K;
      const std::uint8_t* nibbles = b + (five ? 48 : 16);
      const int g = j / 32;
      int q = (nibbles[32 * (j / 64) + j % 32] >> (g % 2 == 0 ? 0 : 4)) & 15;
      if (five && ((b[16 + j % 32] >> g) & 1) != 0) q += 16;
      return half_at(0) * static_cast<float>(six_bit(b + 4, g, false) * q) -
             half_at(2) * static_cast<float>(six_bit(b + 4, g, true));
    }
    case DataType::Q6_K: {
      const int half = j / 128;
      const int r = j % 128;
      const int low = (b[64 * half + r % 64] >> (r < 64 ? 0 : 4)) & 15;
      const int high = (b[128 + 32 * half + r % 32] >> (2 * (r / 32))) & 3;
      const int scale = static_cast<std::int8_t>(b[192 + j / 16]);
      return half_at(208) * static_cast<float>(scale * ((low | (high << 4)) - 32));
    }
    default:
      return 0;
  }
}

class Quant : public ::testing::TestWithParam<DataType> {};

std::string test_name(const ::testing::TestParamInfo<DataType>& p) {
  return std::string(name(p.param));
}

class QuantBlocks : public Quant {};

TEST_P(QuantBlocks, DecodesEveryBitPatternAsDefined) {
  const DataTypeInfo& type = info(GetParam());
  std::mt19937 random(1);
  std::vector<float> out(type.block_size);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint8_t> bytes(type.block_bytes + 1);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    std::uint8_t* block = bytes.data() + 1;  // unaligned on purpose
    // Keep the scales finite: the fields d and dmin get an exponent below the top.
    for (const int offset : {0, 2}) {
      if (GetParam() != DataType::Q6_K) block[offset + 1] &= 0xbf;
    }
    if (GetParam() == DataType::Q6_K) block[209] &= 0xbf;
    dequantize(GetParam(), reinterpret_cast<const std::byte*>(block), out);
    for (std::uint32_t j = 0; j < type.block_size; ++j) {
      const float expected = weight_by_definition(GetParam(), block, static_cast<int>(j));
      ASSERT_NEAR(out[j], expected, 2e-6 * std::fabs(expected) + 1e-4) << "weight " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, QuantBlocks,
                         ::testing::Values(DataType::Q4_0, DataType::Q8_0, DataType::Q4_K,
                                           DataType::Q5_K, DataType::Q6_K),
                         test_name);

// Largest error of a weight, as a share of the largest weight of the group that shares a scale.
double allowed_error(DataType type) {
  switch (type) {
    case DataType::F32:
      return 0;
    case DataType::F16:
      return 0x1p-11;
    case DataType::BF16:
      return 0x1p-8;
    case DataType::Q8_0:
      return 0.5 / 127 * 1.01;  // half a step; 1 % for the 16-bit scale
    case DataType::Q4_0:
      return 1.0 / 8 * 1.01;  // a whole step at the end without a mirror
    case DataType::Q6_K:
      return 1.0 / 32 * 1.1;  // the scale itself has steps of 1/128
    case DataType::Q5_K:
      return 2.0 / 31 * 0.5 + 4.0 / 63;  // half a step + both 6-bit scales' error
    case DataType::Q4_K:
      return 2.0 / 15 * 0.5 + 4.0 / 63;
  }
  return 0;
}

TEST_P(Quant, RoundTripStaysWithinHalfAStep) {
  const DataTypeInfo& type = info(GetParam());
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> values(1024);
  std::vector<float> decoded(values.size());
  std::vector<std::byte> bytes(row_bytes(type.type, values.size()));
  for (int round = 0; round < 50; ++round) {
    for (float& value : values) value = normal(random);
    quantize(type.type, values, bytes);
    dequantize(type.type, bytes.data(), decoded);
    const std::size_t block = std::max<std::size_t>(type.block_size, 32);
    for (std::size_t begin = 0; begin < values.size(); begin += block) {
      float peak = 0;
      for (std::size_t i = begin; i < begin + block; ++i)
        peak = std::max(peak, std::fabs(values[i]));
      for (std::size_t i = begin; i < begin + block; ++i) {
        ASSERT_NEAR(decoded[i], values[i], allowed_error(type.type) * peak) << i;
      }
    }
  }
}

TEST_P(Quant, ZerosStayZero) {
  std::vector<float> values(256, 0.0F);
  std::vector<float> decoded(256, 1.0F);
  std::vector<std::byte> bytes(row_bytes(GetParam(), values.size()));
  quantize(GetParam(), values, bytes);
  dequantize(GetParam(), bytes.data(), decoded);
  EXPECT_EQ(decoded, values);
}

INSTANTIATE_TEST_SUITE_P(AllTypes, Quant,
                         ::testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                           DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                           DataType::Q5_K, DataType::Q6_K),
                         test_name);

}  // namespace
}  // namespace gander
