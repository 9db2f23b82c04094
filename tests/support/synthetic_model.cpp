#include "tests/support/synthetic_model.h"

#include <cmath>
#include <random>
#include <utility>

#include "base/half.h"
#include "model/quant/blocks.h"

namespace gander {

namespace {

/// Draws parameters. Distributions of the standard library differ between implementations, its
/// generators do not: values are uniform, made from the generator's bits.
class Parameters {
 public:
  explicit Parameters(std::uint64_t seed) : generator_(seed) {}

  std::vector<float> between(std::size_t count, float low, float high) {
    std::vector<float> values(count);
    for (float& value : values) {
      const auto unit = static_cast<float>(generator_() >> 40) * 0x1p-24F;
      value = exact_in_16_bits(low + (high - low) * unit);
    }
    return values;
  }

  /// Zero mean, and a standard deviation of gain / sqrt(columns): y = W x then has about `gain`
  /// times the size of x.
  Matrix matrix(DataType type, std::uint32_t rows, std::uint32_t columns, float gain) {
    const float limit = gain * std::sqrt(3.0F / static_cast<float>(columns));
    const auto values = between(std::size_t{rows} * columns, -limit, limit);
    const Matrix shape = {type, rows, columns, nullptr};
    auto bytes = std::make_shared<std::vector<std::byte>>(shape.size());
    quantize(type, values, *bytes);
    const Matrix matrix = {type, rows, columns, bytes->data()};
    storage_.push_back(std::move(bytes));
    return matrix;
  }

  LayerNormWeights norm(std::uint32_t width) {
    return {between(width, 0.7F, 1.3F), between(width, -0.2F, 0.2F)};
  }

  std::vector<std::shared_ptr<const void>> take_storage() { return std::move(storage_); }

 private:
  static float exact_in_16_bits(float value) {
    const float rounded = bfloat16_to_float(float_to_bfloat16(value));
    return std::abs(rounded) < 0x1p-14F ? 0.0F : rounded;  // smaller ones are not exact in F16
  }

  std::mt19937_64 generator_;
  std::vector<std::shared_ptr<const void>> storage_;
};

LayerWeights make_layer(Parameters& parameters, const Config& config, bool has_value_mix,
                        DataType matrices, DataType low_rank) {
  const std::uint32_t width = config.width;
  const auto lerp = [&] { return parameters.between(width, 0.0F, 1.0F); };
  const auto down = [&](std::uint32_t rank) {
    return parameters.matrix(low_rank, rank, width, 1.0F);
  };
  const auto up = [&](std::uint32_t rank, float gain) {
    return parameters.matrix(low_rank, width, rank, gain);
  };
  LayerWeights layer;
  layer.ln1 = parameters.norm(width);
  layer.ln2 = parameters.norm(width);
  TimeMixWeights& att = layer.att;
  att.x_r = lerp();
  att.x_w = lerp();
  att.x_k = lerp();
  att.x_v = lerp();
  att.x_a = lerp();
  att.x_g = lerp();
  att.w0 = parameters.between(width, -6.0F, 2.0F);  // decays from 0.9985 to 0.59
  att.a0 = parameters.between(width, -1.5F, 1.5F);
  if (has_value_mix) att.v0 = parameters.between(width, -1.5F, 1.5F);
  att.k_k = parameters.between(width, 0.4F, 1.6F);
  att.k_a = parameters.between(width, 0.2F, 1.2F);
  att.r_k = parameters.between(width, -2.0F, 2.0F);
  att.w1 = down(config.rank_w);
  att.w2 = up(config.rank_w, 1.5F);
  att.a1 = down(config.rank_a);
  att.a2 = up(config.rank_a, 1.5F);
  if (has_value_mix) {
    att.v1 = down(config.rank_v);
    att.v2 = up(config.rank_v, 1.5F);
  }
  att.g1 = down(config.rank_g);
  att.g2 = up(config.rank_g, 2.0F);
  // r, k and v are small, so that y is small enough for the group norm's epsilon to show.
  att.receptance = parameters.matrix(matrices, width, width, 0.5F);
  att.key = parameters.matrix(matrices, width, width, 0.3F);
  att.value = parameters.matrix(matrices, width, width, 0.5F);
  att.output = parameters.matrix(matrices, width, width, 1.0F);
  att.ln_x = parameters.norm(width);
  layer.ffn.x_k = lerp();
  layer.ffn.key = parameters.matrix(matrices, config.ffn_width, width, 1.0F);
  layer.ffn.value = parameters.matrix(matrices, width, config.ffn_width, 0.7F);
  return layer;
}

}  // namespace

Config synthetic_config(std::uint32_t head_size) {
  Config config;
  config.vocab_size = 300;
  config.layers = 7;
  config.heads = 3;
  config.head_size = head_size;
  config.width = config.heads * head_size;
  config.ffn_width = 5 * head_size;
  config.rank_w = 64;
  config.rank_a = 32;
  config.rank_v = 96;
  config.rank_g = 128;
  return config;
}

Weights make_synthetic_weights(const Config& config, std::uint64_t seed, DataType matrices,
                               DataType low_rank) {
  Parameters parameters(seed);
  Weights weights;
  weights.config = config;
  weights.naming = "synthetic";
  // Embeddings are small, so that the epsilon of ln0 shows.
  const float small = 0.01F * std::sqrt(static_cast<float>(config.width));
  weights.emb = parameters.matrix(matrices, config.vocab_size, config.width, small);
  weights.ln0 = parameters.norm(config.width);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    weights.layers.push_back(make_layer(parameters, config, layer > 0, matrices, low_rank));
  }
  weights.ln_out = parameters.norm(config.width);
  weights.head = parameters.matrix(matrices, config.vocab_size, config.width, 1.0F);
  weights.storage = parameters.take_storage();
  return weights;
}

std::vector<float> dequantized(const Matrix& matrix) {
  std::vector<float> values(std::size_t{matrix.rows} * matrix.columns);
  dequantize(matrix.type, matrix.data, values);
  return values;
}

}  // namespace gander
