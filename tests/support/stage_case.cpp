#include "tests/support/stage_case.h"

#include <algorithm>
#include <cmath>

#include "backend/reference/reference_backend.h"
#include "model/quant/blocks.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

namespace gander {

namespace {

void append_product(const Matrix& matrix, const std::vector<double>& x, double (*function)(double),
                    std::vector<double>& out) {
  const std::vector<float> weights = dequantized(matrix);
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) sum += weights[row * x.size() + i] * x[i];
    out.push_back(function(sum));
  }
}

double same(double x) {
  return x;
}
double hyperbolic_tangent(double x) {
  return std::tanh(x);
}
double logistic(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

StageCase::StageCase(Weights weights)
    : weights_(std::make_shared<const Weights>(std::move(weights))),
      before_(config()),
      after_(config()) {
  ReferenceBackend reference(weights_);
  std::vector<TokenId> tokens = some_tokens(config(), 3);
  token_ = tokens.back();
  tokens.pop_back();
  reference.forward(tokens, Logits::None, {});
  reference.read_state(before_);
  reference.set_hook(
      [this](std::string_view name, std::uint32_t layer, std::span<const double> values) {
        values_[{std::string(name), layer}].assign(values.begin(), values.end());
      });
  std::vector<float> logits(config().vocab_size);
  reference.forward({&token_, 1}, Logits::Last, logits);
  reference.read_state(after_);

  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    values_[{"x", layer}] = layer == 0 ? exact("embedded", 0) : exact("x_ffn", layer - 1);
    const TimeMixWeights& att = weights_->layers[layer].att;
    std::vector<double>& low_rank = values_[{"low_rank", layer}];
    append_product(att.w1, exact("xw", layer), hyperbolic_tangent, low_rank);
    append_product(att.a1, exact("xa", layer), same, low_rank);
    if (layer == 0) {
      low_rank.resize(low_rank.size() + config().rank_v);
    } else {
      append_product(att.v1, exact("xv", layer), same, low_rank);
    }
    append_product(att.g1, exact("xg", layer), logistic, low_rank);
  }
}

const std::vector<double>& StageCase::exact(std::string_view name, std::uint32_t layer) const {
  return values_.at({std::string(name), layer});
}

std::vector<float> StageCase::rounded(std::string_view name, std::uint32_t layer) const {
  const std::vector<double>& values = exact(name, layer);
  return {values.begin(), values.end()};
}

namespace {

Config blocks_of_256() {
  Config config;
  config.vocab_size = 70;
  config.layers = 2;
  config.heads = 2;
  config.head_size = 256;
  config.width = 512;
  config.ffn_width = 768;
  config.rank_w = 512;
  config.rank_a = 256;
  config.rank_v = 768;
  config.rank_g = 1024;
  return config;
}

// Stores the matrix again, in another type.
void convert(Matrix& matrix, DataType type, Weights& weights) {
  const std::vector<float> values = dequantized(matrix);
  matrix.type = type;
  const auto bytes = std::make_shared<std::vector<std::byte>>(matrix.size());
  quantize(type, values, *bytes);
  matrix.data = bytes->data();
  weights.storage.push_back(bytes);
}

}  // namespace

Weights stage_weights(DataType type) {
  Config config = synthetic_config(64);
  config.layers = 2;
  return make_synthetic_weights(info(type).block_size == 256 ? blocks_of_256() : config, 5, type,
                                type);
}

Weights odd_stage_weights(DataType type) {
  return make_synthetic_weights(odd_config(), 6, type, type);
}

Weights mixed_stage_weights(std::uint32_t turn) {
  Weights weights = make_synthetic_weights(blocks_of_256(), 7);
  std::size_t next = turn;
  const auto convert_next = [&](Matrix& matrix) {
    if (matrix.rows == 0) return;
    convert(matrix, all_data_types()[next++ % all_data_types().size()].type, weights);
  };
  for (LayerWeights& layer : weights.layers) {
    TimeMixWeights& att = layer.att;
    for (Matrix* matrix : {&att.receptance, &att.key, &att.value, &att.w1, &att.a1, &att.v1,
                           &att.g1, &att.w2, &att.a2, &att.v2, &att.g2}) {
      convert_next(*matrix);
    }
  }
  return weights;
}

}  // namespace gander
