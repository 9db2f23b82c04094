#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/gpu/cuda/driver.h"
#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/open_device.h"
#include "backend/gpu/recording_device.h"
#include "backend/self_test.h"
#include "base/error.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"

// What a device is asked before it is trusted, and what happens to one that gives wrong answers.
namespace gander::gpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// Seven layers of F16, with some matrices of a second model in other types.
struct MixedModel {
  MixedModel() {
    Config config = odd_config();
    config.layers = 7;
    weights = make_synthetic_weights(config, 1, DataType::F16, DataType::F16);
    others = make_synthetic_weights(config, 2, DataType::F32, DataType::BF16);
  }

  Weights weights, others;
};

std::unique_ptr<Backend> emulated(std::shared_ptr<const Weights> weights) {
  return std::make_unique<GpuBackend>(std::move(weights), open_test_device(),
                                      GpuOptions{.batch_rows = 16});
}

TEST(SelfTest, RunsEveryMatrixInEveryTypeItHas) {
  MixedModel model;
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0, 1));
  model.weights.layers[5].ffn.value = model.others.layers[5].ffn.value;
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0, 1, 5));
  // Another matrix of that type is another case; one layer that has both is enough.
  model.weights.layers[3].att.output = model.others.layers[3].att.output;
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0, 1, 3, 5));
  model.weights.layers[6].att.output = model.others.layers[6].att.output;
  model.weights.layers[6].ffn.value = model.others.layers[6].ffn.value;
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0, 1, 6));
  model.weights.layers[2].att.v2 = model.others.layers[2].att.v2;
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0, 1, 2, 6));

  model.weights.layers.resize(1);
  EXPECT_THAT(layers_to_test(model.weights), ElementsAre(0));
}

TEST(SelfTest, PassesOnTheEmulation) {
  MixedModel model;
  model.weights.layers[4].ffn.value = model.others.layers[4].ffn.value;
  const SelfTest test = self_test(model.weights, emulated);
  EXPECT_TRUE(test.passed()) << test.verdict();
  EXPECT_TRUE(test.generates);
  EXPECT_THAT(test.layers, ElementsAre(0, 1, 4));
  EXPECT_GT(test.logits_error, 0);
  EXPECT_GT(test.prompt_error, 0) << "batches round more";
  EXPECT_LT(test.prompt_error, 5e-3);
  EXPECT_THAT(test.verdict(), HasSubstr("1e-03 is allowed"));
}

// A kernel may be right for all types but one, which only one layer has.
TEST(SelfTest, NoticesWhatIsWrongInALaterLayer) {
  MixedModel model;
  model.weights.layers[4].ffn.value = model.others.layers[4].ffn.value;
  const SelfTest test = self_test(model.weights, [&](const std::shared_ptr<const Weights>& part) {
    auto changed = std::make_shared<Weights>(*part);
    changed->layers[2].ffn.value = model.others.layers[5].ffn.value;
    return emulated(changed);
  });
  EXPECT_FALSE(test.passed());
  EXPECT_THAT(test.verdict(), StartsWith("logits are off by"));
}

TEST(SelfTest, TheCpuBackendIsAllowedToRound) {
  // The head has F32, so the other matrices decide.
  MixedModel model;
  Config config = synthetic_config(256);
  config.layers = 2;
  Weights weights = make_synthetic_weights(config, 1, DataType::Q8_0, DataType::F32);
  const Weights floats = make_synthetic_weights(config, 1, DataType::F32, DataType::F32);
  weights.head = floats.head;
  const SelfTest test = self_test(weights, [](std::shared_ptr<const Weights> part) {
    return create_backend("cpu", std::move(part), {.threads = 1});
  });
  EXPECT_TRUE(test.passed()) << test.verdict();
  EXPECT_GT(test.logits_error, 1e-3);
  EXPECT_FALSE(test.generates);
}

// A backend that hands everything on; its heirs do something wrong on the way.
class Wrapped : public Backend {
 public:
  explicit Wrapped(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  const Config& config() const override { return inner_->config(); }
  std::string description() const override { return inner_->description(); }
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override {
    inner_->forward(tokens, which, logits);
  }
  std::uint32_t slots() const override { return inner_->slots(); }
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best) override {
    inner_->step(steps, logits, best);
  }
  void read_state(State& state, std::uint32_t slot) const override {
    inner_->read_state(state, slot);
  }
  void write_state(const State& state, std::uint32_t slot) override {
    inner_->write_state(state, slot);
  }
  void reset(std::uint32_t slot) override { inner_->reset(slot); }

 protected:
  Backend& inner() const { return *inner_; }

 private:
  std::unique_ptr<Backend> inner_;
};

// A backend whose generator answers another token in place `wrong` of a block.
class WrongChoice final : public Wrapped, public Generator {
 public:
  WrongChoice(std::unique_ptr<Backend> inner, std::size_t wrong)
      : Wrapped(std::move(inner)), wrong_(wrong) {}

  Generator* generator() override { return this; }

  bool supports(const SamplerSettings& settings) const override { return own().supports(settings); }
  void start(const SamplerSettings& settings, const SamplerMemory& memory) override {
    own().start(settings, memory);
  }
  void queue(std::uint32_t count) override { own().queue(count); }
  void collect(std::span<TokenId> tokens) override {
    own().collect(tokens);
    tokens[wrong_] = (tokens[wrong_] + 1) % config().vocab_size;
  }
  void read_block_state(State& state) override { own().read_block_state(state); }
  void stop() override { own().stop(); }

 private:
  Generator& own() const { return *inner().generator(); }

  std::size_t wrong_;
};

TEST(SelfTest, NoticesWrongChoices) {
  const MixedModel model;
  for (const std::size_t wrong : {0U, 1U}) {
    const SelfTest test = self_test(model.weights, [&](std::shared_ptr<const Weights> part) {
      return std::make_unique<WrongChoice>(emulated(std::move(part)), wrong);
    });
    EXPECT_TRUE(test.generates);
    EXPECT_FALSE(test.takes_likeliest) << wrong;
    EXPECT_FALSE(test.passed());
    EXPECT_THAT(test.verdict(), HasSubstr("not the largest logits"));
  }
}

// A backend that reads prompts of `wrong` tokens as if one of them was another.
class WrongPrompt final : public Wrapped {
 public:
  WrongPrompt(std::unique_ptr<Backend> inner, std::size_t wrong)
      : Wrapped(std::move(inner)), wrong_(wrong) {}

  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override {
    std::vector<TokenId> read(tokens.begin(), tokens.end());
    if (read.size() == wrong_) read[1] = (read[1] + 1) % config().vocab_size;
    inner().forward(read, which, logits);
  }
  std::span<const std::uint32_t> telling_lengths() const override {
    return inner().telling_lengths();
  }

 private:
  std::size_t wrong_;
};

TEST(SelfTest, NoticesWrongPrompts) {
  const MixedModel model;
  for (const std::size_t wrong : {8U, 40U}) {
    const SelfTest test = self_test(model.weights, [&](std::shared_ptr<const Weights> part) {
      return std::make_unique<WrongPrompt>(emulated(std::move(part)), wrong);
    });
    EXPECT_FALSE(test.passed());
    EXPECT_LE(test.logits_error, test.tolerance);
    EXPECT_THAT(test.verdict(), HasSubstr("prompts read at once are off by"));
  }
}

TEST(SelfTest, NotANumberDoesNotPass) {
  SelfTest test;
  test.tolerance = 1;
  EXPECT_TRUE(test.passed());
  test.state_error = NAN;
  EXPECT_FALSE(test.passed());
}

/// What a model is opened with when a GPU is or is not fit for it.
class Choice : public testing::Test {
 protected:
  // As `--backend auto` does with this GPU.
  std::unique_ptr<Backend> open(const OpenBackend& gpu) {
    return open_or_other(
        "a GPU", [&] { return open_tested("a GPU", weights_, gpu); },
        [&] { return create_backend("cpu", weights_, {.threads = 1}); },
        [&](std::string_view line) { warnings_.emplace_back(line); });
  }

  std::shared_ptr<const Weights> weights_ =
      std::make_shared<const Weights>(make_synthetic_weights(odd_config(), 1));
  std::vector<std::string> warnings_;
};

TEST_F(Choice, AGpuThatIsRightIsUsed) {
  const std::unique_ptr<Backend> backend = open(emulated);
  EXPECT_THAT(backend->description(), StartsWith("gpu"));
  EXPECT_EQ(backend->config().layers, weights_->config.layers);
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(Choice, OneThatComputesWronglyIsNot) {
  const OpenBackend wrong = [](const std::shared_ptr<const Weights>& part) {
    auto changed = std::make_shared<Weights>(*part);
    changed->layers[1].att.k_a[5] += 0.5F;
    return emulated(changed);
  };
  EXPECT_THAT(open(wrong)->description(), StartsWith("cpu"));
  EXPECT_THAT(warnings_, ElementsAre(StartsWith("a GPU is not used: a GPU computes this model "
                                                "wrongly: logits are off by")));
  // When it is named, nothing else takes its place.
  EXPECT_THAT([&] { open_tested("a GPU", weights_, wrong); },
              testing::ThrowsMessage<Error>(HasSubstr("wrongly: logits are off by")));
}

TEST_F(Choice, OneWithTooLittleMemoryIsNot) {
  const auto open_small = [](std::shared_ptr<const Weights> part) {
    DeviceInfo info = apple_gpu();
    info.working_set_bytes = 1000;
    return std::make_unique<GpuBackend>(std::move(part), std::make_unique<RecordingDevice>(info));
  };
  EXPECT_THAT(open(open_small)->description(), StartsWith("cpu"));
  EXPECT_THAT(warnings_, ElementsAre(StartsWith("a GPU is not used: an Apple GPU can keep")));
}

// The part that is tested fits, the whole model does not.
TEST_F(Choice, OneThatHoldsOnlyAPartIsNot) {
  const auto open_part = [&](std::shared_ptr<const Weights> part) {
    if (part == weights_) fail("no memory for weights");
    return emulated(std::move(part));
  };
  EXPECT_THAT(open(open_part)->description(), StartsWith("cpu"));
  EXPECT_THAT(warnings_, ElementsAre("a GPU is not used: no memory for weights"));
}

TEST_F(Choice, OneThatIsNotThereIsNot) {
  const auto open_absent = [](const std::shared_ptr<const Weights>&) -> std::unique_ptr<Backend> {
    fail("no such device");
  };
  EXPECT_THAT(open(open_absent)->description(), StartsWith("cpu"));
  EXPECT_THAT(warnings_, ElementsAre("a GPU is not used: no such device"));
}

// Nothing is wrong with a computer that has no NVIDIA GPU.
TEST_F(Choice, NoDriverIsNoReasonToWarn) {
  EXPECT_EQ(gpu_may_be_there("cuda"), cuda::driver_is_installed());
  EXPECT_TRUE(gpu_may_be_there("metal"));
  if (cuda::driver_is_installed()) GTEST_SKIP() << "there is a driver";
  const auto backend = create_backend(
      "auto", weights_,
      {.threads = 1, .warn = [&](std::string_view line) { warnings_.emplace_back(line); }});
  EXPECT_THAT(backend->description(), StartsWith("cpu"));
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_THROW(create_backend("cuda", weights_), Error) << "when it is named, it is missed";
}

}  // namespace
}  // namespace gander::gpu
