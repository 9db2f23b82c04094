#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/tensor.h"

// The quantised block formats of GGUF. Every struct is packed as it lies in the file, little
// endian; d and dmin are binary16. Weights of a block are numbered j = 0, 1, ...
namespace gander {

/// value = d * (q - 8); q of weight j is the low nibble of nibbles[j], of j + 16 the high one.
struct [[gnu::packed, gnu::may_alias]] BlockQ4_0 {
  std::uint16_t d;
  std::uint8_t nibbles[16];
};

/// value = d * q.
struct [[gnu::packed, gnu::may_alias]] BlockQ8_0 {
  std::uint16_t d;
  std::int8_t q[32];
};

/// Eight groups of 32 weights: value = d * scale * q - dmin * minimum. Each 64 weights share 32
/// bytes of nibbles: the first 32 are the low ones, the next 32 the high ones.
struct [[gnu::packed, gnu::may_alias]] BlockQ4_K {
  std::uint16_t d, dmin;
  std::uint8_t scales[12];  ///< eight 6-bit (scale, minimum) pairs, see scale_and_minimum
  std::uint8_t nibbles[128];
};

/// As Q4_K with a fifth bit: bit g of high[i] belongs to weight i of group g.
struct [[gnu::packed, gnu::may_alias]] BlockQ5_K {
  std::uint16_t d, dmin;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t nibbles[128];
};

/// Sixteen groups of 16 weights: value = d * scale * (q - 32). Each half of 128 weights has 64
/// bytes of low nibbles and 32 bytes of high bit pairs.
struct [[gnu::packed, gnu::may_alias]] BlockQ6_K {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t d;
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_K) == 144 &&
              sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

struct ScaleAndMinimum {
  std::uint8_t scale, minimum;
};

/// Pair `group` of the 12 bytes that Q4_K and Q5_K share.
[[gnu::always_inline]] inline ScaleAndMinimum scale_and_minimum(const std::uint8_t* scales,
                                                                int group) {
  if (group < 4) {
    return {static_cast<std::uint8_t>(scales[group] & 63),
            static_cast<std::uint8_t>(scales[group + 4] & 63)};
  }
  return {static_cast<std::uint8_t>((scales[group + 4] & 15) | ((scales[group - 4] >> 6) << 4)),
          static_cast<std::uint8_t>((scales[group + 4] >> 4) | ((scales[group] >> 6) << 4))};
}

/// Decodes `out.size()` weights that start at a block boundary. `data` may be unaligned.
void dequantize(DataType type, const std::byte* data, std::span<float> out);

/// Encodes `values` (a multiple of the block size) by rounding to nearest; `out` has
/// row_bytes(type, values.size()) bytes. Values must be finite.
void quantize(DataType type, std::span<const float> values, std::span<std::byte> out);

}  // namespace gander
