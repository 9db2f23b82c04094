#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/stages.h"
#include "backend/reference/reference_backend.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

constexpr std::size_t kStageTokens = 5;

// The reference's intermediates for a text: by name, layer and token.
struct Intermediates {
  std::map<std::pair<std::string, std::uint32_t>, std::vector<std::vector<double>>> values;

  // All tokens of one name, one after the other.
  std::vector<double> rows(const std::string& name, std::uint32_t layer) const {
    std::vector<double> all;
    for (const std::vector<double>& token : values.at({name, layer})) {
      all.insert(all.end(), token.begin(), token.end());
    }
    return all;
  }
};

Intermediates reference_run(const std::shared_ptr<const Weights>& weights,
                            const std::vector<TokenId>& text) {
  Intermediates result;
  ReferenceBackend reference(weights);
  reference.set_hook(
      [&](std::string_view name, std::uint32_t layer, std::span<const double> values) {
        result.values[{std::string(name), layer}].emplace_back(values.begin(), values.end());
      });
  logits_of(reference, text);
  return result;
}

// Matrices of n by n: the stages keep S with a row for each key index.
std::vector<float> transposed(std::span<const float> matrices, std::size_t n) {
  std::vector<float> result(matrices.size());
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    const std::size_t row = i / n % n;
    const std::size_t column = i % n;
    result[i - i % (n * n) + column * n + row] = matrices[i];
  }
  return result;
}

class CpuStages : public ::testing::TestWithParam<DataType> {};

TEST_P(CpuStages, EachAgreesWithTheReference) {
  Config config = synthetic_config(GetParam() >= DataType::Q4_K ? 256 : 64);
  config.layers = 3;
  const auto weights =
      std::make_shared<const Weights>(make_synthetic_weights(config, 3, GetParam()));
  const std::vector<TokenId> text = some_tokens(config, kStageTokens);
  const double tolerance = info(GetParam()).block_size > 1 ? kQuantizedTolerance : 1e-5;
  const Intermediates expected = reference_run(weights, text);

  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    ThreadPool pool(1);
    const CpuWeights prepared = prepare_weights(weights, pool);
    State state(config);
    Activations buffers(config, kStageTokens, 1);
    const auto check = [&](const char* name, std::uint32_t layer, const float* values) {
      const std::vector<double> rows = expected.rows(name, layer);
      const double error =
          error_for<float, double>(GetParam(), std::span(values, rows.size()), rows);
      EXPECT_LT(error, tolerance) << name << " of layer " << layer << ", "
                                  << (*kernels)->instruction_set;
    };

    const auto run = [&](Worker& worker) {
      const SequenceRows sequence = {&state, 0, kStageTokens};
      const StageContext context = {prepared,       **kernels, buffers,
                                    {&sequence, 1}, worker,    kStageTokens};
      embed(context, text);
      check("embedded", 0, buffers.x);
      for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
        time_mix_in(context, layer);
        check("xr", layer, buffers.xr.values);
        check("xw", layer, buffers.xw.values);
        check("xk", layer, buffers.xk.values);
        check("xv", layer, buffers.xv.values);
        check("xa", layer, buffers.xa.values);
        check("xg", layer, buffers.xg.values);
        check("r", layer, buffers.r);
        check("k", layer, buffers.k);
        check("v", layer, layer == 0 ? buffers.v_first : buffers.v);
        wkv(context, layer);
        check("w", layer, buffers.w);
        check("a", layer, buffers.a);
        check("g", layer, buffers.g);
        check("kk", layer, buffers.kk);
        check("k_adjusted", layer, buffers.k);
        check("v_mixed", layer, layer == 0 ? buffers.v_first : buffers.v);
        check("y_gated", layer, buffers.y.values);
        const std::vector<double>& s = expected.values.at({"S", layer}).back();
        const std::vector<float> matrices = transposed(state.matrix(layer), config.head_size);
        EXPECT_LT((error_for<float, double>(GetParam(), matrices, s)), tolerance) << "S";
        time_mix_out(context, layer);
        check("x_att", layer, buffers.x);
        ffn_key(context, layer);
        check("ffn_xk", layer, buffers.xk.values);
        check("h", layer, buffers.h.values);
        ffn_value(context, layer);
        check("x_ffn", layer, buffers.x);
      }
      std::vector<float> logits(kStageTokens * config.vocab_size);
      head(context, std::vector<std::uint32_t>{0, 1, 2, 3, 4}, logits.data());
      check("logits", config.layers, logits.data());
    };
    pool.run([&run](Worker& worker) { run(worker); });
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, CpuStages,
                         ::testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                           DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                           DataType::Q5_K, DataType::Q6_K),
                         [](const auto& p) { return std::string(name(p.param)); });

}  // namespace
}  // namespace gander
