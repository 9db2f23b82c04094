#pragma once

#include <cstring>

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "base/half.h"
#include "model/quant/blocks.h"

// One block of each format to floats. The loops are written so that compilers vectorise them; the
// CPU backend compiles them once per instruction set, which is why everything here has internal
// linkage: one definition must never stand in for another.
namespace gander {
namespace {

inline float to_float(std::uint16_t half) {
#ifdef __F16C__
  return _cvtsh_ss(half);
#else
  return half_to_float(half);
#endif
}

inline void decode_block(const BlockQ4_0& block, float* out) {
  const float d = to_float(block.d);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block.nibbles[j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block.nibbles[j] >> 4) - 8);
  }
}

inline void decode_block(const BlockQ8_0& block, float* out) {
  const float d = to_float(block.d);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(block.q[j]);
}

inline void decode_block(const BlockQ4_K& block, float* out) {
  const float d = to_float(block.d);
  const float dmin = to_float(block.dmin);
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

inline void decode_block(const BlockQ5_K& block, float* out) {
  const float d = to_float(block.d);
  const float dmin = to_float(block.dmin);
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

inline void decode_block(const BlockQ6_K& block, float* out) {
  const float d = to_float(block.d);
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
inline void decode_blocks(const std::byte* data, float* out, std::size_t count,
                          std::size_t weights) {
  const Block* block = reinterpret_cast<const Block*>(data);
  for (std::size_t done = 0; done < count; done += weights) decode_block(*block++, out + done);
}

template <typename Convert>
inline void decode_16_bit(const std::byte* data, float* out, std::size_t count, Convert convert) {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, data + 2 * i, 2);
    out[i] = convert(bits);
  }
}

inline void decode_halves(const std::byte* data, float* out, std::size_t count) {
  std::size_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
  }
#endif
  decode_16_bit(data + 2 * i, out + i, count - i, to_float);
}

// dequantize() on raw pointers.
inline void decode(DataType type, const std::byte* data, float* out, std::size_t count) {
  if (count == 0) return;  // then pointers may be null
  switch (type) {
    case DataType::F32:
      std::memcpy(out, data, 4 * count);
      break;
    case DataType::F16:
      decode_halves(data, out, count);
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

}  // namespace
}  // namespace gander
