#include "model/quant/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "model/quant/layout.h"

namespace gander {

namespace {

int round_to(float value, int low, int high) {
  return std::clamp(static_cast<int>(std::lrint(value)), low, high);
}

float inverse(float value) {
  return value == 0.0F ? 0.0F : 1.0F / value;
}

// The value of largest magnitude, with its sign.
float signed_peak(std::span<const float> values) {
  return *std::ranges::max_element(values, {}, [](float v) { return std::fabs(v); });
}

void encode_block(const float* values, BlockQ4_0& block) {
  // The peak maps to -8, the one level that has no mirror.
  block.d = float_to_half(signed_peak({values, 32}) / -8);
  const float scale = inverse(half_to_float(block.d));
  std::uint8_t levels[32];
  for (int j = 0; j < 32; ++j) {
    levels[j] = static_cast<std::uint8_t>(round_to(values[j] * scale, -8, 7) + 8);
  }
  store_levels(levels, block);
}

void encode_block(const float* values, BlockQ8_0& block) {
  block.d = float_to_half(std::fabs(signed_peak({values, 32})) / 127);
  const float scale = inverse(half_to_float(block.d));
  for (int j = 0; j < 32; ++j) {
    block.q[j] = static_cast<std::int8_t>(round_to(values[j] * scale, -127, 127));
  }
}

// Q4_K and Q5_K: scales of eight groups of 32, and the levels 0..`top` of 256 weights.
template <typename Block>
void encode_groups(const float* values, int top, Block& block) {
  float scale[8];
  float minimum[8];  // of the group, negated: value = scale * q - minimum
  for (int g = 0; g < 8; ++g) {
    const auto [low, high] = std::minmax_element(values + 32 * g, values + 32 * g + 32);
    minimum[g] = std::max(0.0F, -*low);
    scale[g] = std::max(0.0F, *high + minimum[g]) / static_cast<float>(top);
  }
  block.d = float_to_half(*std::max_element(scale, scale + 8) / 63);
  block.dmin = float_to_half(*std::max_element(minimum, minimum + 8) / 63);
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  std::uint8_t scales[8];
  std::uint8_t minimums[8];
  std::uint8_t levels[256];
  for (int g = 0; g < 8; ++g) {
    scales[g] = static_cast<std::uint8_t>(round_to(scale[g] * inverse(d), 0, 63));
    minimums[g] = static_cast<std::uint8_t>(round_to(minimum[g] * inverse(dmin), 0, 63));
    const float step = inverse(d * static_cast<float>(scales[g]));
    const float offset = dmin * static_cast<float>(minimums[g]);
    for (int i = 32 * g; i < 32 * g + 32; ++i) {
      levels[i] = static_cast<std::uint8_t>(round_to((values[i] + offset) * step, 0, top));
    }
  }
  store_pairs(scales, minimums, block.scales);
  store_levels(levels, block);
}

void encode_block(const float* values, BlockQ4_K& block) {
  encode_groups(values, 15, block);
}

void encode_block(const float* values, BlockQ5_K& block) {
  encode_groups(values, 31, block);
}

void encode_block(const float* values, BlockQ6_K& block) {
  float scale[16];
  for (int g = 0; g < 16; ++g) scale[g] = signed_peak({values + 16 * g, 16}) / -32;
  block.d = float_to_half(signed_peak({scale, 16}) / -128);
  const float d = half_to_float(block.d);
  std::uint8_t levels[256];
  for (int g = 0; g < 16; ++g) {
    block.scales[g] = static_cast<std::int8_t>(round_to(scale[g] * inverse(d), -128, 127));
    const float step = inverse(d * static_cast<float>(block.scales[g]));
    for (int i = 16 * g; i < 16 * g + 16; ++i) {
      levels[i] = static_cast<std::uint8_t>(round_to(values[i] * step, -32, 31) + 32);
    }
  }
  store_levels(levels, block);
}

template <typename Block>
void encode_blocks(std::span<const float> values, std::size_t weights, std::span<std::byte> out) {
  for (std::size_t i = 0; i < values.size() / weights; ++i) {
    Block block;
    encode_block(values.data() + i * weights, block);
    std::memcpy(out.data() + i * sizeof(Block), &block, sizeof(Block));
  }
}

template <typename Convert>
void encode_16_bit(std::span<const float> values, std::span<std::byte> out, Convert convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = convert(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
}

}  // namespace

void quantize(DataType type, std::span<const float> values, std::span<std::byte> out) {
  switch (type) {
    case DataType::F32:
      std::memcpy(out.data(), values.data(), values.size_bytes());
      break;
    case DataType::F16:
      encode_16_bit(values, out, [](float v) { return float_to_half(v); });
      break;
    case DataType::BF16:
      encode_16_bit(values, out, [](float v) { return float_to_bfloat16(v); });
      break;
    case DataType::Q8_0:
      encode_blocks<BlockQ8_0>(values, 32, out);
      break;
    case DataType::Q4_0:
      encode_blocks<BlockQ4_0>(values, 32, out);
      break;
    case DataType::Q4_K:
      encode_blocks<BlockQ4_K>(values, 256, out);
      break;
    case DataType::Q5_K:
      encode_blocks<BlockQ5_K>(values, 256, out);
      break;
    case DataType::Q6_K:
      encode_blocks<BlockQ6_K>(values, 256, out);
      break;
  }
}

}  // namespace gander
