#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backend/gpu/batch/batch_shape.h"
#include "backend/gpu/gpu_backend.h"
#include "backend/reference/reference_backend.h"
#include "base/error.h"
#include "tests/support/backend_check.h"
#include "tests/support/failing_device.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"

// Steps of many sequences as matrix products: both kinds of products, against double precision, and
// against themselves in other company.
namespace gander::gpu {
namespace {

// Factors are halves: 2^-12 of each at the most, some layers deep.
constexpr double kBatchTolerance = 2e-3;

std::shared_ptr<const Weights> batch_model(const Config& config, DataType type,
                                           DataType low_rank = DataType::F16) {
  return std::make_shared<const Weights>(make_synthetic_weights(config, 1, type, low_rank));
}

// Widths that no tile divides, ranks that are no multiple of a step, two layers.
Config batch_config() {
  Config config = synthetic_config(64);
  config.width = 256;
  config.heads = 4;
  config.ffn_width = 1536;
  config.layers = 2;
  config.rank_w = 40;
  config.rank_a = 72;
  config.rank_v = 24;
  config.rank_g = 136;
  config.vocab_size = 70;
  return config;
}

/// By tensor cores, on weights as the token kernel has them; else by simdgroup_matrix.
enum class Products { Simd, Tensor };

std::unique_ptr<GpuBackend> batched(const std::shared_ptr<const Weights>& weights,
                                    Products products, std::uint32_t slots = 1,
                                    Order order = Order::Forward, std::uint32_t rows = 64,
                                    std::uint32_t cores = 1, bool half_states = false) {
  EmulatedOptions options{.order = order, .cores = cores};
  if (products == Products::Tensor) {
    options.resident_groups = 7;
    options.max_group_memory = 227 << 10;
  }
  auto backend = std::make_unique<GpuBackend>(weights, open_resident_test_device(options),
                                              GpuOptions{.persistent = products == Products::Tensor,
                                                         .slots = slots,
                                                         .batch_rows = rows,
                                                         .half_states = half_states});
  EXPECT_EQ(backend->persistent() != nullptr, products == Products::Tensor);
  return backend;
}

/// The text in one step, all logits.
std::vector<float> batch_logits(Backend& backend, const std::vector<TokenId>& text,
                                std::uint32_t slot = 0) {
  std::vector<float> logits(text.size() * backend.config().vocab_size);
  const SequenceStep step = {slot, text, Logits::All};
  backend.step({&step, 1}, logits, {});
  return logits;
}

double batch_error(Backend& backend, const std::shared_ptr<const Weights>& weights,
                   std::size_t tokens) {
  ReferenceBackend reference(weights);
  const std::vector<TokenId> text = some_tokens(weights->config, tokens);
  const double logits =
      relative_error<float, float>(batch_logits(backend, text), logits_of(reference, text));
  return std::max(logits, relative_error<float, float>(state_of(backend), state_of(reference)));
}

class GpuBatchTypes : public ::testing::TestWithParam<std::tuple<DataType, Products>> {};

TEST_P(GpuBatchTypes, AgreesWithTheReference) {
  const auto [type, products] = GetParam();
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), type);
  const double error = batch_error(*batched(weights, products), weights, 5);
  RecordProperty("error", std::to_string(error));
  EXPECT_LT(error, kBatchTolerance);
}

INSTANTIATE_TEST_SUITE_P(AllTypes, GpuBatchTypes,
                         ::testing::Combine(::testing::Values(DataType::F32, DataType::F16,
                                                              DataType::BF16, DataType::Q8_0,
                                                              DataType::Q4_0, DataType::Q4_K,
                                                              DataType::Q5_K, DataType::Q6_K),
                                            ::testing::Values(Products::Simd, Products::Tensor)),
                         [](const auto& p) {
                           return std::string(name(std::get<0>(p.param))) +
                                  (std::get<1>(p.param) == Products::Tensor ? "_tensor" : "_simd");
                         });

TEST(GpuBatch, OddWidthsAndLargeHeads) {
  for (const Config& config : {odd_config(), synthetic_config(256)}) {
    Config shallow = config;
    shallow.layers = 2;
    const std::shared_ptr<const Weights> weights =
        batch_model(shallow, DataType::F32, DataType::F32);
    EXPECT_LT(batch_error(*batched(weights, Products::Simd), weights, 3), kBatchTolerance)
        << config.width;
  }
}

// Every count of tokens about the borders of tiles, one layer: each tile's products, and rows that
// a program was recorded for and a step has not.
TEST(GpuBatch, AnyNumberOfTokens) {
  Config config = batch_config();
  config.layers = 1;
  config.rank_v = 0;
  config.width = config.ffn_width = 256;
  const std::shared_ptr<const Weights> weights = batch_model(config, DataType::F16);
  ReferenceBackend reference(weights);
  // With a core the tiles are those for more blocks of rows than cores, with a hundred those for
  // fewer.
  const std::array backends = {batched(weights, Products::Simd, 1, Order::Forward, 160),
                               batched(weights, Products::Tensor, 1, Order::Forward, 160, 1),
                               batched(weights, Products::Tensor, 1, Order::Forward, 160, 100)};
  for (const std::size_t tokens : {1U, 17U, 33U, 66U, 130U}) {
    const std::vector<TokenId> text = some_tokens(config, tokens);
    reference.reset();
    const std::vector<float> expected = logits_of(reference, text);
    std::vector<std::vector<float>> logits;
    for (const std::unique_ptr<GpuBackend>& backend : backends) {
      logits.push_back(batch_logits(*backend, text));
      EXPECT_LT((relative_error<float, float>(logits.back(), expected)), kBatchTolerance) << tokens;
    }
    EXPECT_EQ(logits[1], logits[2]) << "the order of a sum does not depend on the tile";
    for (const std::unique_ptr<GpuBackend>& backend : backends) backend->reset();
  }
}

TEST(GpuBatch, TilesFitTokensAndCores) {
  DeviceInfo info;
  info.cores = 132;
  info.max_group_memory = 227 << 10;
  const auto kernel = [&](std::uint32_t tokens, std::uint32_t blocks, bool by_unit = false) {
    return tile_for({tokens, blocks, by_unit}, true, info).kernel;
  };
  EXPECT_EQ(kernel(8, 132), "tensor_rows_32");
  EXPECT_EQ(kernel(32, 133), "tensor_rows_32_many");
  EXPECT_EQ(kernel(33, 133), "tensor_rows_64_many");
  EXPECT_EQ(kernel(64, 40), "tensor_rows_64");
  EXPECT_EQ(kernel(65, 133), "tensor_rows_128_wide");
  EXPECT_EQ(kernel(128, 40), "tensor_rows_128");
  // Two waves of 128 tokens take longer than one of 256; one does not, nor do three than two.
  EXPECT_EQ(kernel(512, 66), "tensor_rows_128_wide");
  EXPECT_EQ(kernel(512, 67), "tensor_rows_256_wide");
  EXPECT_EQ(kernel(512, 192), "tensor_rows_128_wide");
  EXPECT_EQ(kernel(512, 206), "tensor_rows_256_wide");
  EXPECT_EQ(kernel(1024, 133), "tensor_rows_256_wide");
  EXPECT_EQ(kernel(32, 133, true), "tensor_units_32");
  EXPECT_EQ(kernel(2048, 133, true), "tensor_units_256_wide");
  info.max_group_memory = 160 << 10;
  EXPECT_EQ(kernel(128, 40), "tensor_rows_128_wide") << "what fits";
  EXPECT_TRUE(has_tiles(true, info));
  info.max_group_memory = 99 << 10;
  EXPECT_FALSE(has_tiles(true, info));
  EXPECT_TRUE(has_tiles(false, info));
}

TEST(GpuBatch, AnyOrderLeavesTheSameBits) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::Q4_K);
  const std::vector<TokenId> text = some_tokens(weights->config, 6);
  for (const Products products : {Products::Simd, Products::Tensor}) {
    const std::vector<float> expected = batch_logits(*batched(weights, products), text);
    for (const Order order : {Order::Reverse, Order::Shuffled}) {
      EXPECT_EQ(batch_logits(*batched(weights, products, 1, order), text), expected);
    }
  }
}

// Texts cut at random into steps of random company: every sequence's logits and state are those of
// its text alone.
class GpuBatchSchedules : public ::testing::TestWithParam<Products> {};

TEST_P(GpuBatchSchedules, LeaveTheSameBits) {
  constexpr std::uint32_t kSlots = 5;
  Config config = batch_config();
  config.width = config.ffn_width = 256;
  const std::shared_ptr<const Weights> weights = batch_model(config, DataType::Q8_0);
  const std::size_t vocabulary = config.vocab_size;
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::vector<float>> logits, states;
  const std::unique_ptr<GpuBackend> alone = batched(weights, GetParam());
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    texts.push_back(some_tokens(config, 6 + 5 * slot, slot));
    alone->reset();
    logits.push_back(batch_logits(*alone, texts.back()));
    states.push_back(state_of(*alone));
  }
  std::mt19937 random(7);
  for (int schedule = 0; schedule < 2; ++schedule) {
    const std::unique_ptr<GpuBackend> backend =
        batched(weights, GetParam(), kSlots, Order::Shuffled, 32);
    std::vector<std::size_t> read(kSlots);
    std::vector<std::uint32_t> order = {0, 1, 2, 3, 4};
    while (!std::ranges::equal(read, texts, {}, {}, [](const auto& text) { return text.size(); })) {
      std::shuffle(order.begin(), order.end(), random);
      std::vector<SequenceStep> steps;
      std::vector<float> expected;
      std::vector<TokenId> expected_best;
      for (const std::uint32_t slot : order) {
        const std::size_t left = texts[slot].size() - read[slot];
        if (left == 0 || random() % 4 == 0) continue;
        const std::size_t count = std::min<std::size_t>(left, 1 + random() % 3 * (random() % 12));
        const auto which = static_cast<Logits>(random() % 3);
        steps.push_back({slot, std::span(texts[slot]).subspan(read[slot], count), which});
        read[slot] += count;
        const std::size_t rows = which == Logits::All ? count : which == Logits::Last ? 1 : 0;
        for (std::size_t row = read[slot] - rows; row < read[slot]; ++row) {
          const auto values = std::span(logits[slot]).subspan(row * vocabulary, vocabulary);
          expected.insert(expected.end(), values.begin(), values.end());
          expected_best.push_back(
              static_cast<TokenId>(std::ranges::max_element(values) - values.begin()));
        }
      }
      std::vector<float> actual(expected.size());
      std::vector<TokenId> best(expected_best.size());
      backend->step(steps, actual, best);
      ASSERT_EQ(actual, expected);
      ASSERT_EQ(best, expected_best);
    }
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      EXPECT_EQ(state_of(*backend, slot), states[slot]) << slot;
    }
    EXPECT_LE(backend->batch()->programs(), BatchRunner::kPrograms);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, GpuBatchSchedules,
                         ::testing::Values(Products::Simd, Products::Tensor), [](const auto& p) {
                           return p.param == Products::Tensor ? "Tensor" : "Simd";
                         });

// More rows, and more rows with logits, than a program has.
TEST(GpuBatch, LongStepsAreCut) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::F16);
  const std::vector<TokenId> text = some_tokens(weights->config, 45);
  const std::unique_ptr<GpuBackend> whole = batched(weights, Products::Tensor, 2);
  const std::unique_ptr<GpuBackend> cut = batched(weights, Products::Tensor, 2, Order::Forward, 16);
  const std::vector<float> expected = batch_logits(*whole, text, 1);
  EXPECT_EQ(batch_logits(*cut, text, 1), expected);
  EXPECT_EQ(state_of(*cut, 1), state_of(*whole, 1));
  EXPECT_EQ(state_of(*cut, 0), std::vector<float>(state_of(*cut, 0).size()));
  // A text of several tokens takes the same way, but for its last token.
  std::vector<float> last(weights->config.vocab_size);
  whole->forward(text, Logits::Last, last);
  const std::vector<float> wanted(expected.end() - static_cast<std::ptrdiff_t>(last.size()),
                                  expected.end());
  EXPECT_LT((relative_error<float, float>(last, wanted)), 1e-3);
  EXPECT_LT((relative_error<float, float>(state_of(*whole, 0), state_of(*whole, 1))), 1e-3);
}

TEST(GpuBatch, NothingOfAStepThatFailedIsInTheNext) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::F16);
  const std::vector<TokenId> text = some_tokens(weights->config, 9);
  auto device = std::make_unique<FailingDevice>(open_test_device());
  FailingDevice& failing = *device;
  GpuBackend backend(weights, std::move(device), {.slots = 2, .batch_rows = 64});
  const std::vector<float> expected = batch_logits(backend, text, 1);
  failing.fail_next();
  std::vector<float> logits(weights->config.vocab_size);
  const SequenceStep other = {.slot = 0, .tokens = text};
  EXPECT_THROW(backend.step({&other, 1}, logits), Error);
  backend.reset(1);
  EXPECT_EQ(batch_logits(backend, text, 1), expected);
  EXPECT_EQ(state_of(backend, 0), std::vector<float>(state_of(backend, 0).size()));
}

TEST(GpuBatch, ProgramsAreCachedAndBounded) {
  Config config = batch_config();
  config.layers = 1;
  const std::shared_ptr<const Weights> weights = batch_model(config, DataType::F16);
  const std::unique_ptr<GpuBackend> backend = batched(weights, Products::Tensor);
  BatchRunner& batch = *backend->batch();
  const Program* first = &batch.program({5, 3, 1, false});
  EXPECT_EQ(&batch.program({8, 4, 1, false}), first);
  EXPECT_EQ(first->dispatches.size(), 9U + 4);
  EXPECT_EQ(batch.programs(), 1U);
  for (std::uint32_t rows = 1; rows <= 64; rows *= 2) {
    for (std::uint32_t sequences = 1; sequences <= rows; sequences *= 2) {
      batch.program({rows, sequences, sequences, true});
      batch.program({rows, sequences, 0, false});
    }
  }
  EXPECT_EQ(batch.programs(), BatchRunner::kPrograms);
}

TEST(GpuBatch, MemoryIsPlanned) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::Q6_K);
  for (const Products products : {Products::Simd, Products::Tensor}) {
    const std::unique_ptr<GpuBackend> backend = batched(weights, products, 7);
    EXPECT_LE(backend->device().allocated_bytes(), backend->plan().total() + 4096);
    EXPECT_GE(backend->device().allocated_bytes(), backend->plan().total() * 9 / 10);
  }
}

std::unique_ptr<GpuBackend> with_half_states(const std::shared_ptr<const Weights>& weights,
                                             Products products, std::uint32_t cores = 1) {
  return batched(weights, products, 2, Order::Forward, 64, cores, true);
}

// Rounded after every token: any cut, and any way through State, leaves the same bits. With a core
// sequences are many, with a hundred few.
TEST(GpuBatchHalfStates, AnyCutLeavesTheSameBits) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::Q4_0);
  const std::vector<TokenId> text = some_tokens(weights->config, 13);
  const std::size_t vocabulary = weights->config.vocab_size;
  for (const Products products : {Products::Simd, Products::Tensor}) {
    const std::vector<float> floats = batch_logits(*batched(weights, products), text);
    const std::unique_ptr<GpuBackend> whole = with_half_states(weights, products, 100);
    const std::vector<float> expected = batch_logits(*whole, text);
    EXPECT_LT((relative_error<float, float>(expected, floats)), 5e-3);
    EXPECT_GT((relative_error<float, float>(expected, floats)), 1e-6) << "they are rounded";
    const std::unique_ptr<GpuBackend> cut = with_half_states(weights, products);
    State state(weights->config);
    std::vector<float> last(vocabulary);
    std::uint32_t slot = 0;
    std::size_t begin = 0;
    for (const std::size_t count : {1U, 4U, 1U, 7U}) {
      const SequenceStep step = {slot, std::span(text).subspan(begin, count), Logits::Last};
      cut->step({&step, 1}, last);
      begin += count;
      cut->read_state(state, slot);
      slot = 1 - slot;
      cut->write_state(state, slot);
      EXPECT_TRUE(std::ranges::equal(
          last, std::span(expected).subspan((begin - 1) * vocabulary, vocabulary)))
          << begin;
    }
    EXPECT_EQ(state_of(*cut, slot), state_of(*whole, 0));
    whole->reset();
    whole->forward(std::span(text).first(1), Logits::Last, last);
    EXPECT_TRUE(std::ranges::equal(last, std::span(expected).first(vocabulary)));
  }
}

// A first start waits for every kernel that is compiled.
TEST(GpuBatchKernels, FewTokensMultiplyAllTypesWithOneKernel) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::Q4_K);
  const auto kernels_for = [&](Products products, std::uint32_t rows) {
    const std::unique_ptr<GpuBackend> backend = batched(weights, products, 1, {}, 128);
    std::map<std::string_view, std::set<std::uint32_t>> pipelines;
    for (const Dispatch& dispatch : backend->batch()->program({rows, 1, 1}).dispatches) {
      if (dispatch.kernel.find("_rows_") != std::string_view::npos) {
        pipelines[dispatch.kernel].insert(dispatch.pipeline);
      }
    }
    return pipelines;
  };
  const auto of_few = kernels_for(Products::Tensor, 16);
  EXPECT_FALSE(of_few.empty());
  for (const auto& [kernel, pipelines] : of_few) {
    EXPECT_EQ(pipelines.size(), 1U) << kernel;
  }
  // Where there is more to multiply each product has what it needs: Q4_K and F16, either.
  const auto of_many = kernels_for(Products::Tensor, 128);
  ASSERT_TRUE(of_many.contains("tensor_rows_128_wide"));
  EXPECT_EQ(of_many.at("tensor_rows_128_wide").size(), 3U);
  EXPECT_EQ(kernels_for(Products::Simd, 16).at("multiply_rows_16").size(), 3U);
}

TEST(GpuBatchHalfStates, LargeHeadsAndLargeValues) {
  Config config = synthetic_config(256);
  config.layers = 2;
  const std::shared_ptr<const Weights> weights = batch_model(config, DataType::F32, DataType::F32);
  const std::unique_ptr<GpuBackend> backend = with_half_states(weights, Products::Simd);
  EXPECT_LT(batch_error(*backend, weights, 3), 5e-3);
  State state(config);
  state.matrix(1)[3] = -1e6F;
  state.matrix(1)[4] = 0.0999755859375F;  // a half
  state.ffn_shift(1)[2] = 1e6F;
  backend->write_state(state, 1);
  State read(config);
  backend->read_state(read, 1);
  EXPECT_EQ(read.matrix(1)[3], -65504.0F);
  EXPECT_EQ(read.matrix(1)[4], state.matrix(1)[4]);
  EXPECT_EQ(read.ffn_shift(1)[2], 1e6F) << "only S is halves";
}

TEST(GpuBatchHalfStates, TakeHalfTheMemoryAndBatches) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::F16);
  const std::unique_ptr<GpuBackend> floats = batched(weights, Products::Simd, 7);
  const std::unique_ptr<GpuBackend> halves =
      batched(weights, Products::Simd, 7, Order::Forward, 64, 1, true);
  EXPECT_LT(halves->plan().state_bytes, floats->plan().state_bytes * 6 / 10);
  EXPECT_LE(halves->device().allocated_bytes(), halves->plan().total() + 4096);
  EXPECT_EQ(halves->generator(), nullptr);
  EXPECT_THROW(GpuBackend(weights, open_test_device(), {.half_states = true}), Error);
  for (const std::string name : {"cpu", "reference"}) {
    EXPECT_THROW(create_backend(name, weights, {.half_states = true}), Error) << name;
  }
}

TEST(GpuBatch, SlotsNeedBatches) {
  const std::shared_ptr<const Weights> weights = batch_model(batch_config(), DataType::F16);
  EXPECT_THROW(GpuBackend(weights, open_test_device(), {.slots = 2}), Error);
}

}  // namespace
}  // namespace gander::gpu
