#include <cstring>

#include "base/half.h"
#include "model/quant/blocks.h"

namespace gander {

namespace {

void decode_block(const BlockQ4_0& block, float* out) {
  const float d = half_to_float(block.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block.nibbles[j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block.nibbles[j] >> 4) - 8);
  }
}

void decode_block(const BlockQ8_0& block, float* out) {
  const float d = half_to_float(block.d);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block.q[j]);
}

void decode_block(const BlockQ4_K& block, float* out) {
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  for (int pair = 0; pair < 4; ++pair) {
    const ScaleAndMinimum low = scale_and_minimum(block.scales, 2 * pair);
    const ScaleAndMinimum high = scale_and_minimum(block.scales, 2 * pair + 1);
    const float low_scale = d * static_cast<float>(low.scale);
    const float low_minimum = dmin * static_cast<float>(low.minimum);
    const float high_scale = d * static_cast<float>(high.scale);
    const float high_minimum = dmin * static_cast<float>(high.minimum);
    const std::uint8_t* nibbles = block.nibbles + 32 * pair;
    float* target = out + 64 * pair;
    for (int i = 0; i < 32; ++i) {
      target[i] = low_scale * static_cast<float>(nibbles[i] & 15) - low_minimum;
      target[i + 32] = high_scale * static_cast<float>(nibbles[i] >> 4) - high_minimum;
    }
  }
}

void decode_block(const BlockQ5_K& block, float* out) {
  const float d = half_to_float(block.d);
  const float dmin = half_to_float(block.dmin);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum pair = scale_and_minimum(block.scales, group);
    const float scale = d * static_cast<float>(pair.scale);
    const float minimum = dmin * static_cast<float>(pair.minimum);
    const std::uint8_t* nibbles = block.nibbles + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      const int q = ((nibbles[i] >> shift) & 15) | (((block.high[i] >> group) & 1) << 4);
      out[32 * group + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

void decode_block(const BlockQ6_K& block, float* out) {
  const float d = half_to_float(block.d);
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = block.low + 64 * half;
    const std::uint8_t* high = block.high + 32 * half;
    // Quarter k of a half: its nibbles are the low (k < 2) or high ones of low[32 * (k % 2) + i],
    // its bit pair is number k of high[i].
    for (int quarter = 0; quarter < 4; ++quarter) {
      const std::uint8_t* nibbles = low + 32 * (quarter % 2);
      const int shift = 4 * (quarter / 2);
      float* target = out + 128 * half + 32 * quarter;
      const std::int8_t* scales = block.scales + 8 * half + 2 * quarter;
      for (int part = 0; part < 2; ++part) {
        const float scale = d * static_cast<float>(scales[part]);
        for (int i = 16 * part; i < 16 * part + 16; ++i) {
          const int q = ((nibbles[i] >> shift) & 15) | (((high[i] >> (2 * quarter)) & 3) << 4);
          target[i] = scale * static_cast<float>(q - 32);
        }
      }
    }
  }
}

// `count` weights, a multiple of `weights`, the size of a Block; `data` may be unaligned.
template <typename Block>
void decode_blocks(const std::byte* data, float* out, std::size_t count, std::size_t weights) {
  const Block* block = reinterpret_cast<const Block*>(data);
  for (std::size_t done = 0; done < count; done += weights) decode_block(*block++, out + done);
}

template <typename Convert>
void decode_16_bit(const std::byte* data, float* out, std::size_t count, Convert convert) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, data + 2 * i, 2);
    out[i] = convert(bits);
  }
}

}  // namespace

void dequantize(DataType type, const std::byte* data, std::span<float> values) {
  if (values.empty()) return;  // then pointers may be null
  float* out = values.data();
  const std::size_t count = values.size();
  switch (type) {
    case DataType::F32:
      std::memcpy(out, data, 4 * count);
      break;
    case DataType::F16:
      decode_16_bit(data, out, count, [](std::uint16_t b) { return half_to_float(b); });
      break;
    case DataType::BF16:
      decode_16_bit(data, out, count, [](std::uint16_t b) { return bfloat16_to_float(b); });
      break;
    case DataType::Q8_0:
      decode_blocks<BlockQ8_0>(data, out, count, 32);
      break;
    case DataType::Q4_0:
      decode_blocks<BlockQ4_0>(data, out, count, 32);
      break;
    case DataType::Q4_K:
      decode_blocks<BlockQ4_K>(data, out, count, 256);
      break;
    case DataType::Q5_K:
      decode_blocks<BlockQ5_K>(data, out, count, 256);
      break;
    case DataType::Q6_K:
      decode_blocks<BlockQ6_K>(data, out, count, 256);
      break;
  }
}

}  // namespace gander
