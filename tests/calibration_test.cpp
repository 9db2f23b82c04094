#include "backend/cpu/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "backend/reference/reference_backend.h"
#include "model/quant/blocks.h"
#include "model/weight_names.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

constexpr std::size_t kTextTokens = 150;  // three chunks, the last not whole

std::vector<TokenId> text(const Config& config) {
  std::vector<TokenId> tokens;
  for (std::size_t i = 0; i < kTextTokens; ++i) {
    tokens.push_back(static_cast<TokenId>((i * i * 31 + 7 * i) % config.vocab_size));
  }
  return tokens;
}

/// f(W x), squared: what the second low-rank matrix reads.
template <typename Function>
std::vector<double> squared_middle(const Matrix& matrix, std::span<const double> x, Function f) {
  std::vector<double> squares;
  std::vector<float> row(matrix.columns);
  for (std::size_t i = 0; i < matrix.rows; ++i) {
    dequantize(matrix.type, matrix.row(i), row);
    double sum = 0;
    for (std::size_t j = 0; j < row.size(); ++j) sum += row[j] * x[j];
    squares.push_back(f(sum) * f(sum));
  }
  return squares;
}

/// The same figures, token by token from the reference's intermediates.
std::map<std::string, std::vector<double>> expected_importance(
    const std::shared_ptr<const Weights>& weights, std::span<const TokenId> tokens) {
  std::map<std::string, std::vector<double>> sums;
  const auto add = [&](const std::string& name, std::span<const double> squares) {
    std::vector<double>& sum = sums[name];
    sum.resize(squares.size());
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += squares[i] / kTextTokens;
  };
  ReferenceBackend reference(weights);
  reference.set_hook([&](std::string_view name, std::uint32_t layer,
                         std::span<const double> values) {
    std::vector<double> squares(values.begin(), values.end());
    for (double& value : squares) value *= value;
    const auto read_by = [&](std::string_view part) {
      add(layer_tensor_name(Naming::Gguf, layer, part), squares);
    };
    const auto middle = [&](std::string_view part, const Matrix& first, auto function) {
      add(layer_tensor_name(Naming::Gguf, layer, part), squared_middle(first, values, function));
    };
    const auto same = [](double x) { return x; };
    if (name == "xr") read_by("att.receptance.weight");
    if (name == "xk") read_by("att.key.weight");
    if (name == "y_gated") read_by("att.output.weight");
    if (name == "ffn_xk") read_by("ffn.key.weight");
    if (name == "h") read_by("ffn.value.weight");
    if (name == "x_out") add(model_tensor_name(Naming::Gguf, "head.weight"), squares);
    if (name == "xv") {
      read_by("att.value.weight");
      if (layer > 0) read_by("att.v1");
      if (layer > 0) middle("att.v2", weights->layers[layer].att.v1, same);
    }
    if (name == "xw") {
      read_by("att.w1");
      middle("att.w2", weights->layers[layer].att.w1, [](double x) { return std::tanh(x); });
    }
    if (name == "xa") {
      read_by("att.a1");
      middle("att.a2", weights->layers[layer].att.a1, same);
    }
    if (name == "xg") {
      read_by("att.g1");
      middle("att.g2", weights->layers[layer].att.g1,
             [](double x) { return 1 / (1 + std::exp(-x)); });
    }
  });
  std::vector<float> logits(tokens.size() * weights->config.vocab_size);
  reference.forward(tokens, Logits::All, logits);
  return sums;
}

class Calibration : public ::testing::TestWithParam<DataType> {
 protected:
  // Heads of 256: rows are whole blocks of every type.
  static std::shared_ptr<const Weights> weights() {
    Config config = synthetic_config(GetParam() == DataType::F32 ? 64 : 256);
    config.layers = 3;
    return std::make_shared<const Weights>(
        make_synthetic_weights(config, 2, GetParam(), DataType::F32));
  }
};

TEST_P(Calibration, IsTheMeanSquareOfWhatEachMatrixReads) {
  const auto model = weights();
  const std::vector<TokenId> tokens = text(model->config);
  const auto measured = measure_importance(model, tokens, {.threads = 2});
  ASSERT_TRUE(measured);
  const auto expected = expected_importance(model, tokens);
  EXPECT_GE(expected.size(), 3 * 13U);
  const double tolerance = 3 * tolerance_of(GetParam());
  for (const auto& [name, values] : expected) {
    ASSERT_TRUE(measured->contains(name)) << name;
    const std::vector<float>& found = measured->at(name);
    EXPECT_LT((error_for<float, double>(GetParam(), found, values)), tolerance) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Calibration, ::testing::Values(DataType::F32, DataType::Q4_K),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(CalibrationRun, AnyNumberOfThreadsGivesTheSameBits) {
  const auto model = std::make_shared<const Weights>(make_synthetic_weights(synthetic_config(), 3));
  const std::vector<TokenId> tokens = text(model->config);
  const auto expected = measure_importance(model, tokens, {.threads = 1});
  for (const unsigned threads : {2U, 5U}) {
    EXPECT_EQ(measure_importance(model, tokens, {.threads = threads}), expected) << threads;
  }
}

TEST(CalibrationRun, ProgressCountsAndGivesUp) {
  const auto model = std::make_shared<const Weights>(make_synthetic_weights(synthetic_config(), 3));
  const std::vector<TokenId> tokens = text(model->config);
  std::vector<double> shares;
  const auto record = [&](double share) {
    shares.push_back(share);
    return true;
  };
  EXPECT_TRUE(measure_importance(model, tokens, {.threads = 1, .progress = record}));
  EXPECT_EQ(shares.size(), 7 * 3U);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
  EXPECT_LE(shares.back(), 1);

  int calls = 0;
  const auto third = [&](double) { return ++calls < 3; };
  EXPECT_FALSE(measure_importance(model, tokens, {.threads = 1, .progress = third}));
  EXPECT_EQ(calls, 3);
}

}  // namespace
}  // namespace gander
