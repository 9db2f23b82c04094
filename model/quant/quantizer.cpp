#include "model/quant/quantizer.h"

#include <algorithm>
#include <cstring>

#include "model/quant/blocks.h"
#include "model/quant/layout.h"
#include "model/quant/search.h"

namespace gander {

namespace {

template <typename Block>
void encode_affine(const float* x, const float* w, int top, std::byte* out) {
  AffineBlock found;
  search_affine(x, w, top, found);
  Block block;
  block.d = found.d;
  block.dmin = found.dmin;
  store_pairs(found.scales, found.minimums, block.scales);
  store_levels(found.levels, block);
  std::memcpy(out, &block, sizeof block);
}

void encode_scaled(const float* x, const float* w, std::byte* out) {
  ScaledBlock found;
  search_scaled(x, w, found);
  BlockQ6_K block;
  block.d = found.d;
  std::copy_n(found.scales, 16, block.scales);
  store_levels(found.levels, block);
  std::memcpy(out, &block, sizeof block);
}

// `count` weights, up to kSearchWeights.
void encode_q8_0(const float* x, const float* w, std::size_t count, std::byte* out) {
  PlainBlocks found;
  search_plain(x, w, -127, 127, found);
  for (std::size_t i = 0; i < count / 32; ++i) {
    BlockQ8_0 block;
    block.d = found.d[i];
    std::copy_n(found.levels + 32 * i, 32, block.q);
    std::memcpy(out + i * sizeof block, &block, sizeof block);
  }
}

void encode_q4_0(const float* x, const float* w, std::size_t count, std::byte* out) {
  PlainBlocks found;
  search_plain(x, w, -8, 7, found);
  for (std::size_t i = 0; i < count / 32; ++i) {
    std::uint8_t levels[32];
    for (std::size_t j = 0; j < 32; ++j) {
      levels[j] = static_cast<std::uint8_t>(found.levels[32 * i + j] + 8);
    }
    BlockQ4_0 block;
    block.d = found.d[i];
    store_levels(levels, block);
    std::memcpy(out + i * sizeof block, &block, sizeof block);
  }
}

}  // namespace

void quantize_weighted(DataType type, std::span<const float> values,
                       std::span<const float> importance, std::span<std::byte> out) {
  if (info(type).block_size == 1) return quantize(type, values, out);
  // The last piece of a row of Q8_0 or Q4_0 may be shorter; zeros without weight fill it up.
  float x[kSearchWeights];
  float w[kSearchWeights];
  std::byte* target = out.data();
  for (std::size_t begin = 0; begin < values.size(); begin += kSearchWeights) {
    const std::size_t count = std::min<std::size_t>(values.size() - begin, kSearchWeights);
    std::fill(std::copy_n(values.data() + begin, count, x), x + kSearchWeights, 0.0F);
    std::fill_n(w, kSearchWeights, 1.0F);
    if (!importance.empty()) std::copy_n(importance.data() + begin, count, w);
    error_weights(x, w, w);
    switch (type) {
      case DataType::Q4_K:
        encode_affine<BlockQ4_K>(x, w, 15, target);
        break;
      case DataType::Q5_K:
        encode_affine<BlockQ5_K>(x, w, 31, target);
        break;
      case DataType::Q6_K:
        encode_scaled(x, w, target);
        break;
      case DataType::Q8_0:
        encode_q8_0(x, w, count, target);
        break;
      case DataType::Q4_0:
        encode_q4_0(x, w, count, target);
        break;
      default:
        break;
    }
    target += row_bytes(type, count);
  }
}

}  // namespace gander
