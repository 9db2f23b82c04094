#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/measure/bandwidth.h"
#include "backend/gpu/measure/stages.h"
#include "backend/gpu/measure/sync.h"
#include "backend/gpu/prediction.h"
#include "backend/gpu/primitives.h"
#include "tests/support/backend_check.h"
#include "tests/support/kernel_run.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"

// What `gander bench sync` and `gander bench roofline` count. Times of the emulation mean nothing.
namespace gander::gpu {
namespace {

using testing::DoubleEq;
using testing::DoubleNear;
using testing::ElementsAre;

constexpr std::uint32_t kTokens = 32;
const auto kNoProgress = [](double) {};

// Heads of 64 and widths of whole blocks: what the token kernel takes.
std::shared_ptr<const Weights> small_model() {
  Config config = synthetic_config(64);
  config.width = 256;
  config.heads = 4;
  config.ffn_width = 512;
  config.layers = 2;
  config.rank_w = config.rank_a = config.rank_v = config.rank_g = 32;
  config.vocab_size = 300;
  return std::make_shared<const Weights>(
      make_synthetic_weights(config, 1, DataType::Q8_0, DataType::F16));
}

// Nothing but launches.
std::shared_ptr<const Weights> tiny_model() {
  Config config = odd_config();
  config.layers = 3;
  return std::make_shared<const Weights>(make_synthetic_weights(config, 1));
}

std::unique_ptr<GpuBackend> open_stages(const std::shared_ptr<const Weights>& weights) {
  return std::make_unique<GpuBackend>(weights, open_test_device(), GpuOptions{.persistent = false});
}

std::unique_ptr<GpuBackend> open_token_kernel(const std::shared_ptr<const Weights>& weights) {
  auto backend = std::make_unique<GpuBackend>(
      weights, open_resident_test_device({.resident_groups = 7, .max_group_memory = 200 << 10}));
  EXPECT_NE(backend->persistent(), nullptr);
  return backend;
}

TEST(GpuMeasureSync, CountsWhatIsHandedOverAndWaitedFor) {
  const std::shared_ptr<const Weights> weights = tiny_model();
  const std::unique_ptr<GpuBackend> backend = open_stages(weights);
  std::vector<double> shares;
  const std::vector<SyncCost> costs =
      measure_sync(*backend, kTokens, 1, [&](double done) { shares.push_back(done); });
  ASSERT_EQ(costs.size(), 8U);
  const double layers = weights->config.layers;
  const std::array<std::pair<std::string_view, double>, 2> kernels = {
      {{"unfused", layers * 50 + 3}, {"stages", layers * 5 + 3}}};
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const auto& [name, dispatches] = kernels[i / 4];
    EXPECT_EQ(costs[i].kernels, name);
    EXPECT_EQ(costs[i].dispatches, dispatches);
    EXPECT_GT(costs[i].seconds, 0);
    EXPECT_LE(costs[i].waiting, costs[i].seconds);
  }
  for (const std::size_t first : {0U, 4U}) {
    EXPECT_EQ(costs[first].mode, SyncMode::Op);
    EXPECT_EQ(costs[first].submissions, costs[first].dispatches);
    EXPECT_EQ(costs[first].waits, costs[first].dispatches);
    // What belongs to no layer is in front of the first and behind the last.
    EXPECT_EQ(costs[first + 1].mode, SyncMode::Layer);
    EXPECT_EQ(costs[first + 1].submissions, layers + 2);
    EXPECT_EQ(costs[first + 1].waits, layers + 2);
    EXPECT_EQ(costs[first + 2].mode, SyncMode::Token);
    EXPECT_EQ(costs[first + 2].submissions, 1);
    EXPECT_EQ(costs[first + 2].waits, 1);
    // Four blocks of eight: the first is waited for before the third, the last at the end.
    EXPECT_EQ(costs[first + 3].mode, SyncMode::Async);
    EXPECT_EQ(costs[first + 3].submissions, 4.0 / kTokens);
    EXPECT_EQ(costs[first + 3].waits, 3.0 / kTokens);
    EXPECT_EQ(costs[first + 3].waiting, 0);
  }
  EXPECT_EQ(shares.size(), 16U);
  EXPECT_THAT(shares.back(), DoubleEq(1));
}

TEST(GpuMeasureSync, TheTokenKernelIsHandedOverWhole) {
  const std::unique_ptr<GpuBackend> backend = open_token_kernel(small_model());
  const std::vector<SyncCost> costs = measure_sync(*backend, 2, 1, kNoProgress);
  ASSERT_EQ(costs.size(), 2U);
  EXPECT_EQ(costs[0].mode, SyncMode::Token);
  EXPECT_EQ(costs[0].waits, 1);
  EXPECT_EQ(costs[1].mode, SyncMode::Async);
  EXPECT_EQ(costs[1].waits, 1.0 / 2);
  for (const SyncCost& cost : costs) {
    EXPECT_EQ(cost.kernels, "token kernel");
    EXPECT_EQ(cost.dispatches, static_cast<double>(backend->token_program().dispatches.size() + 1));
  }
}

// However it is waited for, the text is the model's: each token begins with the choice before it.
TEST(GpuMeasureSync, GeneratesTheModelsText) {
  const std::shared_ptr<const Weights> weights = tiny_model();
  const std::unique_ptr<GpuBackend> measured = open_stages(weights);
  measure_sync(*measured, 5, 1, kNoProgress);  // ends with the stages, queued ahead

  const std::unique_ptr<GpuBackend> expected = open_stages(weights);
  std::vector<float> logits(weights->config.vocab_size);
  TokenId token = 0;
  for (int i = 0; i < 5; ++i) {
    expected->forward({&token, 1}, Logits::Last, logits);
    token = static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
  }
  EXPECT_EQ(state_of(*measured), state_of(*expected));
}

TEST(GpuMeasureBandwidth, SumsEveryWord) {
  constexpr std::uint32_t kVectors = 4 * 64 * 3, kGroups = 5;  // 16 bytes each
  std::vector<std::uint32_t> words(std::size_t{kVectors} * 4 * kGroups);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = static_cast<std::uint32_t>(i * 2654435761U);
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    const std::unique_ptr<Device> device = open_test_device(order);
    std::vector<std::uint32_t> sums(kGroups * 2);
    KernelRun run(*device, "sum_words");
    run.in(words);
    run.out(sums);
    run.parameters(SumWordsParameters{kVectors});
    run.launch({kGroups, 1}, 64);
    for (std::uint32_t group = 0; group < kGroups; ++group) {
      std::uint32_t expected = 0;
      for (std::uint32_t i = 0; i < kVectors * 4; ++i) expected += words[group * kVectors * 4 + i];
      EXPECT_EQ(sums[2 * group] + sums[2 * group + 1], expected) << group;
    }
  }
}

TEST(GpuMeasureBandwidth, ReadsABufferLargerThanCaches) {
  const std::unique_ptr<Device> device = open_test_device();
  const ReadBandwidth bandwidth = measure_read_bandwidth(*device);
  EXPECT_GT(bandwidth.bytes_per_second, 0);
  EXPECT_EQ(bandwidth.buffer_bytes, device->info().emulated ? 1U << 20 : 1U << 30);
  EXPECT_GE(device->allocated_bytes(), bandwidth.buffer_bytes);
}

TEST(GpuMeasureStages, CountsBytesAsTheProgramDoes) {
  const std::shared_ptr<const Weights> weights = small_model();
  const std::unique_ptr<GpuBackend> backend = open_stages(weights);
  const Program program = dynamic_cast<const GpuGenerator&>(*backend->generator()).token_program();
  const StageCosts costs = measure_stages(*backend);
  EXPECT_FALSE(costs.traced);
  EXPECT_GT(costs.active, 0.05);
  EXPECT_LT(costs.active, 0.95);
  std::vector<std::string> names;
  std::uint64_t bytes = 0;
  double moved = 0, operations = 0;
  for (const StageCost& stage : costs.stages) {
    names.push_back(stage.name);
    EXPECT_GT(stage.seconds, 0) << stage.name;
    EXPECT_EQ(stage.launches, stage.name.at(1) == ' ' ? weights->config.layers : 1);
    bytes += stage.bytes;
    moved += stage.moved_bytes;
    operations += stage.operations;
  }
  EXPECT_THAT(names, ElementsAre("embed", "A time mix in", "B wkv", "C time mix out", "D ffn key",
                                 "E ffn value", "head", "sample"));
  EXPECT_EQ(bytes, program.bytes_read() + program.bytes_written());
  // Stage E alone skips: of the levels of Q8_0, not of the scales.
  const double value_bytes = 2.0 * 256 * (512 + 512 / 32 * 2);
  EXPECT_NEAR(static_cast<double>(bytes) - moved,
              value_bytes * (1 - share_of_value_read(DataType::Q8_0, costs.active)), 1);
  // Two for each weight of a token (a matrix of C × C, F × C, rank × C, V × C), nine for S.
  const double c = 256, f = 512, rank = 32, v = 300;
  const double layer = 2 * (4 * c * c + f * c + f * c * costs.active + 8 * rank * c) + 9 * 64 * c;
  EXPECT_THAT(operations, DoubleNear(2 * layer - 4 * rank * c + 2 * v * c, 1));
}

TEST(GpuMeasureStages, ReadsTheTokenKernelsClock) {
  const std::shared_ptr<const Weights> weights = small_model();
  const std::unique_ptr<GpuBackend> backend = open_token_kernel(weights);
  const StageCosts costs = measure_stages(*backend);
  EXPECT_TRUE(costs.traced);
  ASSERT_EQ(costs.stages.size(), 6U);
  const TokenWeights& placed = backend->persistent()->weights();
  std::uint64_t bytes = 0;
  for (const StageCost& stage : costs.stages) bytes += stage.bytes;
  // Everything but the embedding with ln0, the state twice; parts begin at multiples of 256 bytes.
  const std::uint64_t expected =
      placed.bytes - placed.emb.bytes - placed.ln0.bytes + 2 * backend->memory().state.all.size;
  EXPECT_LE(bytes, expected);
  EXPECT_GE(bytes, expected - 256 * 21 * weights->config.layers);
  EXPECT_LT(costs.stages[4].moved_bytes, static_cast<double>(costs.stages[4].bytes));
  // The same text has the same zeros, but for those near zero.
  const std::unique_ptr<GpuBackend> by_stages = open_stages(weights);
  EXPECT_NEAR(costs.active, measure_stages(*by_stages).active, 0.01);
}

}  // namespace
}  // namespace gander::gpu
