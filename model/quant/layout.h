#pragma once

#include <cstdint>

#include "model/quant/blocks.h"

// From the numbers of a block (levels, scales) to the bits of its format: what encoders share.
// The decoders in decode.cpp read the same layouts.
namespace gander {

/// The inverse of scale_and_minimum: eight pairs below 64 into 12 bytes.
inline void store_pairs(const std::uint8_t* scales, const std::uint8_t* minimums,
                        std::uint8_t* out) {
  for (int j = 0; j < 4; ++j) {
    out[j] = static_cast<std::uint8_t>(scales[j] | ((scales[j + 4] >> 4) << 6));
    out[j + 4] = static_cast<std::uint8_t>(minimums[j] | ((minimums[j + 4] >> 4) << 6));
    out[j + 8] = static_cast<std::uint8_t>((scales[j + 4] & 15) | ((minimums[j + 4] & 15) << 4));
  }
}

/// 256 levels' lower four bits, as Q4_K and Q5_K keep them.
inline void store_nibbles(const std::uint8_t* levels, std::uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const int low = levels[64 * pair + i] & 15;
      const int high = levels[64 * pair + 32 + i] & 15;
      out[32 * pair + i] = static_cast<std::uint8_t>(low | (high << 4));
    }
  }
}

/// 256 levels from 0 to 15.
inline void store_levels(const std::uint8_t* levels, BlockQ4_K& block) {
  store_nibbles(levels, block.nibbles);
}

/// 256 levels from 0 to 31.
inline void store_levels(const std::uint8_t* levels, BlockQ5_K& block) {
  store_nibbles(levels, block.nibbles);
  for (int i = 0; i < 32; ++i) {
    int bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (levels[32 * g + i] >> 4) << g;
    block.high[i] = static_cast<std::uint8_t>(bits);
  }
}

/// 256 levels from 0 to 63, the stored q.
inline void store_levels(const std::uint8_t* levels, BlockQ6_K& block) {
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* q = levels + 128 * half;
    for (int i = 0; i < 32; ++i) {
      block.low[64 * half + i] = static_cast<std::uint8_t>((q[i] & 15) | ((q[i + 64] & 15) << 4));
      block.low[64 * half + 32 + i] =
          static_cast<std::uint8_t>((q[i + 32] & 15) | ((q[i + 96] & 15) << 4));
      block.high[32 * half + i] =
          static_cast<std::uint8_t>((q[i] >> 4) | ((q[i + 32] >> 4) << 2) |
                                    ((q[i + 64] >> 4) << 4) | ((q[i + 96] >> 4) << 6));
    }
  }
}

/// 32 levels from 0 to 15, the stored q.
inline void store_levels(const std::uint8_t* levels, BlockQ4_0& block) {
  for (int j = 0; j < 16; ++j) {
    block.nibbles[j] = static_cast<std::uint8_t>(levels[j] | (levels[j + 16] << 4));
  }
}

}  // namespace gander
