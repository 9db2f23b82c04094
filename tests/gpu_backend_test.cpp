#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/gpu/gpu_backend.h"
#include "base/error.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"

// The whole token program on the emulation, against double precision.
namespace gander::gpu {
namespace {

std::shared_ptr<const Weights> synthetic(const Config& config, DataType type = DataType::F32,
                                         DataType low_rank = DataType::F32) {
  return std::make_shared<const Weights>(make_synthetic_weights(config, 1, type, low_rank));
}

std::unique_ptr<GpuBackend> emulated(const std::shared_ptr<const Weights>& weights,
                                     const GpuOptions& options = {}, Order order = Order::Forward) {
  return std::make_unique<GpuBackend>(weights, open_test_device(order), options);
}

Config two_layers(std::uint32_t head_size) {
  Config config = synthetic_config(head_size);
  config.layers = 2;
  return config;
}

class GpuBackendTypes : public ::testing::TestWithParam<DataType> {};

// Activations are fp32 whatever the weights are, so one bound holds for all types.
TEST_P(GpuBackendTypes, AgreesWithTheReference) {
  const std::shared_ptr<const Weights> weights = synthetic(two_layers(256), GetParam());
  const double error = error_of(*emulated(weights), weights, 3);
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(AllTypes, GpuBackendTypes,
                         ::testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                           DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                           DataType::Q5_K, DataType::Q6_K),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(GpuBackend, SevenLayersOfMixedTypes) {
  const std::shared_ptr<const Weights> weights =
      synthetic(synthetic_config(), DataType::Q8_0, DataType::F16);
  EXPECT_LT(error_of(*emulated(weights), weights, 4), kTolerance);
}

TEST(GpuBackend, OddWidths) {
  for (const DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    const std::shared_ptr<const Weights> weights = synthetic(odd_config(), type);
    EXPECT_LT(error_of(*emulated(weights), weights, 6), kTolerance) << name(type);
  }
}

TEST(GpuBackend, OneLayerHasNoValueResidual) {
  Config config = odd_config();
  config.layers = 1;
  config.rank_v = 0;
  const std::shared_ptr<const Weights> weights = synthetic(config);
  EXPECT_LT(error_of(*emulated(weights), weights, 4), kTolerance);
}

TEST(GpuBackend, AnySplitLeavesTheSameBits) {
  const std::shared_ptr<const Weights> weights = synthetic(two_layers(64), DataType::Q4_0);
  const std::vector<TokenId> text = some_tokens(weights->config, 21);
  const std::unique_ptr<GpuBackend> whole = emulated(weights);
  std::vector<float> expected(weights->config.vocab_size);
  whole->forward(text, Logits::Last, expected);
  for (const std::size_t piece : {1U, 5U, 8U}) {
    const std::unique_ptr<GpuBackend> split = emulated(weights);
    std::vector<float> logits(expected.size());
    for (std::size_t begin = 0; begin < text.size(); begin += piece) {
      const auto part = std::span(text).subspan(begin, std::min(piece, text.size() - begin));
      split->forward(part, Logits::Last, logits);
    }
    EXPECT_EQ(logits, expected) << piece;
    EXPECT_EQ(state_of(*split), state_of(*whole)) << piece;
  }
}

// Threads, SIMD groups and thread groups in other orders: the bits depend on none of them.
TEST(GpuBackend, AnyOrderLeavesTheSameBits) {
  const std::shared_ptr<const Weights> weights = synthetic(odd_config());
  const std::vector<TokenId> text = some_tokens(weights->config, 3);
  const std::vector<float> expected = logits_of(*emulated(weights), text);
  for (const Order order : {Order::Reverse, Order::Shuffled}) {
    EXPECT_EQ(logits_of(*emulated(weights, {}, order), text), expected);
  }
}

TEST(GpuBackend, OtherShapesComputeTheSame) {
  const std::shared_ptr<const Weights> weights = synthetic(odd_config());
  for (const std::uint32_t threads : {32U, 96U, 1024U}) {
    LaunchShapes shapes;
    shapes.time_mix_in = shapes.time_mix_out = shapes.ffn_key = shapes.head = {threads, 12};
    shapes.wkv_threads = shapes.value_threads = threads;
    shapes.value_slices = 1;
    EXPECT_LT(error_of(*emulated(weights, {.shapes = &shapes}), weights, 3), kTolerance) << threads;
  }
}

TEST(GpuBackend, StateMovesBetweenBackends) {
  const std::shared_ptr<const Weights> weights = synthetic(odd_config());
  const std::vector<TokenId> first = some_tokens(weights->config, 5, 1);
  const std::vector<TokenId> second = some_tokens(weights->config, 3, 2);
  CpuBackend cpu(weights, 1);
  const std::unique_ptr<GpuBackend> gpu = emulated(weights);
  cpu.forward(first, Logits::None, {});
  State state(weights->config);
  cpu.read_state(state);
  gpu->write_state(state);
  const std::vector<float> expected = logits_of(cpu, second);
  EXPECT_LT((relative_error<float, float>(logits_of(*gpu, second), expected)), kTolerance);
  gpu->read_state(state);
  cpu.write_state(state);
  EXPECT_LT((relative_error<float, float>(logits_of(cpu, second), logits_of(*gpu, second))),
            kTolerance);

  gpu->reset();
  EXPECT_EQ(logits_of(*gpu, second), logits_of(*emulated(weights), second));
}

// What a conversation adds up: five tokens a turn, the same on both backends. The state forgets, so
// that rounding does not grow: the bound of the first turn holds for the last.
TEST(GpuBackend, TwoHundredTurnsDoNotDriftFromTheCpu) {
  const std::shared_ptr<const Weights> weights = synthetic(odd_config());
  CpuBackend cpu(weights, 1);
  const std::unique_ptr<GpuBackend> gpu = emulated(weights);
  std::vector<float> expected(weights->config.vocab_size);
  std::vector<float> actual(weights->config.vocab_size);
  double largest = 0;
  for (unsigned turn = 0; turn < 200; ++turn) {
    const std::vector<TokenId> text = some_tokens(weights->config, 5, turn);
    cpu.forward(text, Logits::Last, expected);
    gpu->forward(text, Logits::Last, actual);
    const double error = relative_error<float, float>(actual, expected);
    ASSERT_LT(error, 1e-5) << "turn " << turn;
    largest = std::max(largest, error);
  }
  RecordProperty("error", std::to_string(largest));
  EXPECT_LT((relative_error<float, float>(state_of(*gpu), state_of(cpu))), 1e-5);
}

TEST(GpuBackend, WaitsOncePerEightTokensOfAPrompt) {
  Config config = odd_config();
  const std::shared_ptr<const Weights> weights = synthetic(config);
  const std::unique_ptr<GpuBackend> backend = emulated(weights);
  const DeviceCounters before = backend->device().counters();
  std::vector<float> logits(config.vocab_size);
  backend->forward(some_tokens(config, 64), Logits::Last, logits);
  const DeviceCounters& after = backend->device().counters();
  EXPECT_EQ(after.submissions - before.submissions, 64U);
  // None for the first sixteen, which find both halves free; one for the logits at the end.
  EXPECT_EQ(after.waits - before.waits, 64U / 8 - 2 + 1);
  // The head runs for the last token only.
  EXPECT_EQ(after.dispatches - before.dispatches, 64U * (1 + 5 * config.layers) + 1);
}

TEST(GpuBackend, SynchronisesAsOftenAsAsked) {
  Config config = odd_config();
  config.layers = 3;
  const std::shared_ptr<const Weights> weights = synthetic(config);
  std::vector<float> expected;
  const auto waits = [&](SyncMode mode) {
    const std::unique_ptr<GpuBackend> backend = emulated(weights, {.sync = mode});
    const std::vector<float> logits = logits_of(*backend, {1});
    if (expected.empty()) expected = logits;
    EXPECT_EQ(logits, expected);
    EXPECT_EQ(backend->device().counters().waits, backend->device().counters().submissions);
    return backend->device().counters().waits;
  };
  EXPECT_EQ(waits(SyncMode::Op), 5U * 3 + 2);
  EXPECT_EQ(waits(SyncMode::Layer), 3U + 2);
  EXPECT_EQ(waits(SyncMode::Token), 1U);
  EXPECT_EQ(waits(SyncMode::Async), 1U);
}

TEST(GpuBackend, RefusesHeadsWiderThanTheKernelsTake) {
  Config config = two_layers(256);
  EXPECT_NO_THROW(emulated(synthetic(config)));
  config.head_size = 288;
  config.heads = 2;
  config.width = 576;
  const std::shared_ptr<const Weights> weights = synthetic(config);
  EXPECT_THAT([&] { emulated(weights); },
              testing::ThrowsMessage<Error>(
                  "heads of 288 channels: GPUs take up to 256, use --backend cpu"));
}

}  // namespace
}  // namespace gander::gpu
