#include "bench/random_weights.h"

#include <array>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "model/quant/blocks.h"

namespace gander {

namespace {

// Root mean square of n evenly spaced integers around 0.
float spread(int n) {
  return std::sqrt(static_cast<float>(n * n - 1) / 12);
}

// Six-bit scales from 32 to 63, and their root mean square.
constexpr std::uint64_t kLeastScale = 32;
const float kScaleSize = std::sqrt(47.5F * 47.5F + (32.0F * 32.0F - 1) / 12);

// Eight scales of six bits, with minima equal to them: blocks.h has the layout. With
// dmin = d * (middle of the values' range) the mean of every group is 0.
void set_scales_and_minima(std::uint64_t bits, std::uint8_t* scales) {
  for (int group = 0; group < 4; ++group) {
    const std::uint64_t low = kLeastScale + (bits & 31);
    const std::uint64_t high = kLeastScale + ((bits >> 5) & 31);
    bits >>= 10;
    scales[group] = static_cast<std::uint8_t>(low | (high >> 4) << 6);
    scales[group + 4] = scales[group];
    scales[group + 8] = static_cast<std::uint8_t>((high & 15) | (high & 15) << 4);
  }
}

// 2^16 values spread evenly, of which random bits choose one: fast, and no conversion.
template <typename Number, typename Convert>
std::vector<Number> even_values(float deviation, Convert convert) {
  std::vector<Number> values(1U << 16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float unit = (static_cast<float>(i) - 32767.5F) / 32768;
    values[i] = convert(unit * deviation * std::sqrt(3.0F));
  }
  return values;
}

}  // namespace

// splitmix64 (Steele, Lea, Flood 2014).
std::uint64_t RandomWeights::next() {
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

std::vector<float> RandomWeights::between(std::size_t count, float low, float high) {
  std::vector<float> values(count);
  for (float& value : values) {
    value = low + (high - low) * (static_cast<float>(next() >> 40) * 0x1p-24F);
  }
  return values;
}

void RandomWeights::fill_bits(std::span<std::byte> out) {
  std::size_t at = 0;
  for (; at + 8 <= out.size(); at += 8) {
    const std::uint64_t bits = next();
    std::memcpy(out.data() + at, &bits, 8);
  }
  const std::uint64_t bits = next();
  std::memcpy(out.data() + at, &bits, out.size() - at);
}

template <typename Block, typename SetScales>
void RandomWeights::fill_blocks(std::span<std::byte> out, const SetScales& set_scales) {
  fill_bits(out);
  for (std::size_t at = 0; at + sizeof(Block) <= out.size(); at += sizeof(Block)) {
    set_scales(*reinterpret_cast<Block*>(out.data() + at));
  }
}

void RandomWeights::fill(DataType type, std::span<std::byte> out, float deviation) {
  const auto fill_from = [&](const auto& table) {
    const std::size_t size = sizeof(table[0]);
    for (std::size_t at = 0; at + size <= out.size();) {
      std::uint64_t bits = next();
      for (int i = 0; i < 4 && at + size <= out.size(); ++i, at += size, bits >>= 16) {
        std::memcpy(out.data() + at, &table[bits & 0xffff], size);
      }
    }
  };
  const auto random_sign = [&](float value) { return (next() & 1) != 0 ? value : -value; };
  switch (type) {
    case DataType::F32:
      return fill_from(even_values<float>(deviation, [](float v) { return v; }));
    case DataType::F16:
      return fill_from(even_values<std::uint16_t>(deviation, float_to_half));
    case DataType::BF16:
      return fill_from(even_values<std::uint16_t>(deviation, float_to_bfloat16));
    case DataType::Q8_0:
      return fill_blocks<BlockQ8_0>(out, [&](BlockQ8_0& block) {
        block.d = float_to_half(deviation / spread(255));
        for (std::int8_t& q : block.q) {
          if (q == -128) q = 0;  // encoders do not produce it
        }
      });
    case DataType::Q4_0:  // q - 8 runs from -8 to 7: its mean is not 0, so the sign varies
      return fill_blocks<BlockQ4_0>(out, [&](BlockQ4_0& block) {
        block.d = float_to_half(random_sign(deviation / std::hypot(spread(16), 0.5F)));
      });
    case DataType::Q4_K:
      return fill_blocks<BlockQ4_K>(out, [&](BlockQ4_K& block) {
        const float d = deviation / (kScaleSize * spread(16));
        block.d = float_to_half(d);
        block.dmin = float_to_half(d * 7.5F);
        set_scales_and_minima(next(), block.scales);
      });
    case DataType::Q5_K:
      return fill_blocks<BlockQ5_K>(out, [&](BlockQ5_K& block) {
        const float d = deviation / (kScaleSize * spread(32));
        block.d = float_to_half(d);
        block.dmin = float_to_half(d * 15.5F);
        set_scales_and_minima(next(), block.scales);
      });
    case DataType::Q6_K:  // q - 32 runs from -32 to 31
      return fill_blocks<BlockQ6_K>(out, [&](BlockQ6_K& block) {
        block.d = float_to_half(deviation / (kScaleSize * std::hypot(spread(64), 0.5F)));
        std::uint64_t bits = next();
        for (int group = 0; group < 16; ++group) {
          const auto scale = static_cast<std::int8_t>(kLeastScale + (bits >> 4) % 32);
          block.scales[group] = group % 2 == 0 ? scale : static_cast<std::int8_t>(-scale);
          bits = (bits >> 3) | (bits << 61);
        }
      });
  }
}

}  // namespace gander
