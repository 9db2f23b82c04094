#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

std::shared_ptr<const Weights> synthetic(DataType type = DataType::F32,
                                         const Config& config = synthetic_config()) {
  return std::make_shared<const Weights>(make_synthetic_weights(config, 1, type));
}

class CpuBackendTypes : public ::testing::TestWithParam<DataType> {};

TEST_P(CpuBackendTypes, AgreesWithTheReference) {
  // A head size of 256 makes every row a whole number of 256-blocks, at 64 the columns are many
  // 32s.
  Config config = synthetic_config(256);
  config.layers = 2;
  const ReferenceRun reference(synthetic(GetParam(), config), 8);
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    EXPECT_LT(cpu_error(reference, **kernels, 1), tolerance_of(GetParam()))
        << (*kernels)->instruction_set;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, CpuBackendTypes,
                         ::testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                           DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                           DataType::Q5_K, DataType::Q6_K),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(CpuBackend, SevenLayers) {
  for (const DataType type : {DataType::F32, DataType::F16, DataType::Q8_0, DataType::Q4_0}) {
    const ReferenceRun reference(synthetic(type), 12);
    for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
      const double error = cpu_error(reference, **kernels, 2);
      RecordProperty("error", std::to_string(error));
      EXPECT_LT(error, tolerance_of(type)) << name(type) << " " << (*kernels)->instruction_set;
    }
  }
}

TEST(CpuBackend, OddWidths) {
  for (const DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    const ReferenceRun reference(synthetic(type, odd_config()), 12);
    for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
      EXPECT_LT(cpu_error(reference, **kernels, 2), kTolerance);
    }
  }
}

TEST(CpuBackend, OneLayerHasNoValueResidual) {
  Config config = odd_config();
  config.layers = 1;
  config.rank_v = 0;
  const ReferenceRun reference(synthetic(DataType::F32, config), 12);
  EXPECT_LT(cpu_error(reference, best_kernels(), 2), kTolerance);
}

TEST(CpuBackend, LongTextDoesNotDrift) {
  const ReferenceRun reference(synthetic(DataType::F32, odd_config()), 2000);
  EXPECT_LT(cpu_error(reference, best_kernels(), 1), kTolerance);
}

TEST(CpuBackend, AnySplitLeavesTheSameBits) {
  Config config = synthetic_config(256);
  config.layers = 2;
  const std::shared_ptr<const Weights> weights = synthetic(DataType::Q4_K, config);
  const std::vector<TokenId> text = some_tokens(weights->config, 80);
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    CpuBackend whole(weights, 1, **kernels);
    const std::vector<float> expected = logits_of(whole, text);
    const std::vector<float> expected_state = state_of(whole);
    std::mt19937 random(7);
    for (const std::size_t longest : {1U, 5U, 70U}) {
      CpuBackend split(weights, 1, **kernels);
      std::vector<float> actual;
      for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t count = std::min(text.size() - begin, 1 + random() % longest);
        const std::vector<TokenId> part(text.begin() + begin, text.begin() + begin + count);
        const std::vector<float> logits = logits_of(split, part);
        actual.insert(actual.end(), logits.begin(), logits.end());
        begin += count;
      }
      ASSERT_EQ(actual, expected) << "pieces of up to " << longest;
      ASSERT_EQ(state_of(split), expected_state) << "pieces of up to " << longest;
    }
  }
}

TEST(CpuBackend, AnyNumberOfThreadsLeavesTheSameBits) {
  for (const Config& config : {synthetic_config(64), odd_config()}) {
    const std::shared_ptr<const Weights> weights = synthetic(DataType::F16, config);
    const std::vector<TokenId> text = some_tokens(config, 70);
    CpuBackend one(weights, 1);
    const std::vector<float> expected = logits_of(one, text);
    for (const unsigned threads : {2U, 3U, 7U}) {
      CpuBackend many(weights, threads);
      ASSERT_EQ(logits_of(many, text), expected) << threads << " threads";
      ASSERT_EQ(state_of(many), state_of(one)) << threads << " threads";
    }
  }
}

TEST(CpuBackend, LastIsTheLastOfAll) {
  const std::shared_ptr<const Weights> weights = synthetic(DataType::F32, odd_config());
  const std::vector<TokenId> text = some_tokens(weights->config, 130);
  const std::size_t vocabulary = weights->config.vocab_size;
  CpuBackend all(weights, 2);
  CpuBackend last(weights, 2);
  CpuBackend none(weights, 2);
  const std::vector<float> expected = logits_of(all, text);
  std::vector<float> logits(vocabulary);
  last.forward(text, Logits::Last, logits);
  EXPECT_EQ(logits, std::vector<float>(expected.end() - vocabulary, expected.end()));
  none.forward(text, Logits::None, {});
  EXPECT_EQ(state_of(none), state_of(all));
}

TEST(CpuBackend, StateMovesBetweenBackends) {
  const std::shared_ptr<const Weights> weights = synthetic(DataType::F32, odd_config());
  const std::vector<TokenId> first = some_tokens(weights->config, 20, 1);
  const std::vector<TokenId> second = some_tokens(weights->config, 20, 2);
  CpuBackend one(weights, 1);
  CpuBackend two(weights, 2);
  ReferenceBackend reference(weights);
  one.forward(first, Logits::None, {});
  State state(weights->config);
  one.read_state(state);
  two.write_state(state);
  reference.write_state(state);
  const std::vector<float> expected = logits_of(one, second);
  EXPECT_EQ(logits_of(two, second), expected);
  EXPECT_LT((relative_error<float, float>(logits_of(reference, second), expected)), kTolerance);

  two.reset();
  CpuBackend fresh(weights, 2);
  EXPECT_EQ(logits_of(two, second), logits_of(fresh, second));
  EXPECT_NE(logits_of(two, second), expected);
}

TEST(CreateBackend, ByName) {
  const std::shared_ptr<const Weights> weights = synthetic(DataType::F32, odd_config());
  EXPECT_EQ(create_backend("cpu", weights, {.threads = 1})->description().substr(0, 3), "cpu");
  EXPECT_NE(create_backend("cpu", weights, {.threads = 100'000})->description(), "");
  EXPECT_THROW(create_backend("quantum", weights), std::runtime_error);
}

}  // namespace
}  // namespace gander
