#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "engine/session.h"
#include "tests/support/backend_check.h"
#include "tests/support/fake_backend.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"
#include "tests/support/vocabularies.h"

// Whole generations on the emulation: the tokens never leave the device before they are fed.
namespace gander::gpu {
namespace {

/// A small model of random weights whose tokens are bytes, on the emulated GPU.
class Emulated {
 public:
  explicit Emulated(Order order = Order::Forward, const GpuOptions& options = {}) {
    tokenizer_ = std::make_shared<const Tokenizer>(byte_tokenizer());
    Config config = odd_config();
    config.vocab_size = static_cast<std::uint32_t>(tokenizer_->size());
    weights_ = std::make_shared<const Weights>(
        make_synthetic_weights(config, 1, DataType::F32, DataType::F32));
    auto backend = std::make_unique<GpuBackend>(weights_, open_test_device(order), options);
    backend_ = backend.get();
    session_ =
        std::make_unique<Session>(fake_model(tokenizer_, config.vocab_size), std::move(backend));
    session_->append("Once");
  }

  Sampler sampler(const SamplerSettings& settings) const {
    return Sampler(settings, weights_->config.vocab_size, tokenizer_.get());
  }
  Session& session() { return *session_; }
  GpuBackend& backend() { return *backend_; }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::shared_ptr<const Weights> weights_;
  std::unique_ptr<Session> session_;
  GpuBackend* backend_ = nullptr;
};

const SamplerSettings kUsual = {.temperature = 1.3F,
                                .top_p = 0.9F,
                                .presence_penalty = 0.4F,
                                .frequency_penalty = 0.4F,
                                .seed = 42};

TEST(GpuGeneration, GivesTheSamplersTextInBlocksOfAnySize) {
  Emulated one_by_one;
  Sampler cpu = one_by_one.sampler(kUsual);
  GenerateOptions options;
  options.max_tokens = 12;
  options.stop_at_end_of_text = false;
  options.tokens_ahead = 0;
  const GenerateResult expected = one_by_one.session().generate(cpu, options, nullptr);
  ASSERT_EQ(expected.tokens, 12U);
  for (const std::uint32_t block : {1U, 5U, 64U}) {
    Emulated ahead(block == 5 ? Order::Shuffled : Order::Forward);
    Sampler sampler = ahead.sampler(kUsual);
    options.tokens_ahead = block;
    EXPECT_EQ(ahead.session().generate(sampler, options, nullptr).text, expected.text) << block;
    EXPECT_EQ(ahead.session().tokens(), one_by_one.session().tokens()) << block;
    EXPECT_EQ(state_of(ahead.backend()), state_of(one_by_one.backend())) << block;
    EXPECT_EQ(sampler.memory().random, cpu.memory().random) << block;
  }
}

// What follows a stop string, or a cancellation, does not depend on how far the device was ahead.
TEST(GpuGeneration, GoesBackToTheTextThatWasShown) {
  GenerateOptions options;
  options.max_tokens = 12;
  options.stop_at_end_of_text = false;
  options.tokens_ahead = 0;
  Emulated whole;
  Sampler first = whole.sampler(kUsual);
  whole.session().generate(first, options, nullptr);
  const std::vector<TokenId>& tokens = whole.session().tokens();
  const std::string stop =
      whole.session().model().tokenizer->decode({tokens.end() - 3, tokens.end() - 1});

  std::string expected_text;
  std::vector<float> expected_state;
  for (const std::uint32_t block : {0U, 1U, 5U, 8U}) {
    Emulated model;
    Sampler sampler = model.sampler(kUsual);
    options.tokens_ahead = block;
    options.stops.clear();
    int calls = 0;
    const auto cancel = [&](std::string_view) { return ++calls < 4; };
    GenerateResult result = model.session().generate(sampler, options, cancel);
    EXPECT_EQ(result.reason, StopReason::Cancelled);
    std::string text = result.text;
    options.stops = {stop};
    result = model.session().generate(sampler, options, nullptr);
    EXPECT_EQ(result.reason, StopReason::StopString);
    text += result.text;
    model.session().append(" and ");
    text += model.session().generate(sampler, options, nullptr).text;
    if (block == 0) {
      expected_text = text;
      expected_state = state_of(model.backend());
    }
    EXPECT_EQ(text, expected_text) << block;
    EXPECT_EQ(state_of(model.backend()), expected_state) << block;
  }
}

TEST(GpuGeneration, SubmitsAndWaitsOncePerBlock) {
  Emulated model;
  Sampler sampler = model.sampler(kUsual);
  GenerateOptions options;
  options.max_tokens = 24;
  options.stop_at_end_of_text = false;
  const std::uint32_t layers = model.backend().config().layers;
  model.session().evaluate(std::vector<TokenId>{1});
  const DeviceCounters before = model.backend().device().counters();
  model.session().generate(sampler, options, nullptr);
  const DeviceCounters& after = model.backend().device().counters();
  EXPECT_EQ(after.submissions - before.submissions, 24U / 8);
  EXPECT_EQ(after.waits - before.waits, 24U / 8);
  // A token is embed, five stages a layer, head, sample; the first needs no more than sample, and
  // each block saves the state.
  EXPECT_EQ(after.dispatches - before.dispatches, 23U * (5 * layers + 3) + 1 + 3);
}

TEST(GpuGeneration, IsOffWhereEveryTokenIsWaitedFor) {
  Emulated model(Order::Forward, {.sync = SyncMode::Token});
  EXPECT_EQ(model.backend().generator(), nullptr);
  Emulated unfused(Order::Forward, {.unfused = true});
  EXPECT_EQ(unfused.backend().generator(), nullptr);
}

TEST(GpuGeneration, ItsMemoryIsPlanned) {
  Emulated waiting(Order::Forward, {.sync = SyncMode::Token});
  Emulated ahead;
  const std::uint64_t more =
      ahead.backend().device().allocated_bytes() - waiting.backend().device().allocated_bytes();
  EXPECT_EQ(more, ahead.backend().plan().total() - waiting.backend().plan().total());
}

}  // namespace
}  // namespace gander::gpu
