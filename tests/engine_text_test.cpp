// What an engine makes of a request, one at a time: the text, its end, and where its state is kept.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/serving/engine.h"
#include "engine/session.h"
#include "tests/support/engine_run.h"
#include "tests/support/fake_backend.h"
#include "tests/support/slot_backend.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr std::uint32_t kVocabulary = 260;

Model babbling_model() {
  return fake_model(std::make_shared<const Tokenizer>(byte_tokens({"ab", "\n\n", "a b"})),
                    kVocabulary);
}

std::unique_ptr<SlotBackend> babbling_backend(std::uint32_t slots) {
  return std::make_unique<SlotBackend>(kVocabulary, slots, babbling(kVocabulary));
}

TEST(EngineText, IsThatOfASession) {
  const Model model = babbling_model();
  Engine engine(model, babbling_backend(3));
  int stopped = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Request request;
    request.prompt = "Say " + std::to_string(seed % 7);
    request.sampling.seed = seed;
    request.sampling.temperature = seed % 5 == 0 ? 0.0F : 1.0F;
    request.sampling.presence_penalty = seed % 3 == 0 ? 0.5F : 0.0F;
    request.sampling.top_k = seed % 4 == 0 ? 5 : 0;
    request.max_tokens = 40;
    request.stops = {"\n\nU", "c:", "\nab"};
    request.keep_end = true;

    Session session(model, babbling_backend(1));
    Sampler sampler(request.sampling, kVocabulary, model.tokenizer.get());
    session.append(request.prompt);
    const GenerateResult expected =
        session.generate(sampler, {.max_tokens = 40, .stops = request.stops}, nullptr);

    const Heard::Choice actual = run_alone(engine, std::move(request));
    ASSERT_EQ(actual.text, expected.text) << seed;
    ASSERT_EQ(static_cast<int>(actual.finish.reason), static_cast<int>(expected.reason)) << seed;
    EXPECT_EQ(actual.finish.usage.generated_tokens, expected.tokens);
    EXPECT_EQ(actual.finish.usage.prompt_tokens, expected.prompt_tokens);
    const Session::Snapshot snapshot = session.snapshot();
    ASSERT_EQ(actual.finish.end->tokens, snapshot.tokens) << seed;
    EXPECT_EQ(actual.finish.end->pending, snapshot.pending);
    EXPECT_TRUE(std::ranges::equal(actual.finish.end->state->values(), snapshot.state.values()));
    if (expected.reason == StopReason::StopString) ++stopped;
  }
  EXPECT_GT(stopped, 20);
}

}  // namespace
}  // namespace gander
