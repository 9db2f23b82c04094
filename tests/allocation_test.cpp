#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "engine/sampler.h"
#include "engine/session.h"
#include "tests/support/count_allocations.h"
#include "tests/support/fake_backend.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

TEST(Allocation, TheCounterCounts) {
  const long before = allocation_count();
  const auto memory = std::make_unique<std::string>(100, 'x');
  EXPECT_GE(allocation_count() - before, 2);
}

/// Allocations between the tokens of a generation that uses everything at once.
long allocations_between_tokens(const std::shared_ptr<const Tokenizer>& tokenizer,
                                std::uint32_t vocab_size, std::unique_ptr<Backend> backend) {
  Session session(fake_model(tokenizer, vocab_size), std::move(backend));
  Sampler sampler({.top_k = 100,
                   .top_p = 0.9F,
                   .min_p = 0.01F,
                   .typical_p = 0.9F,
                   .repetition_penalty = 1.1F,
                   .presence_penalty = 0.3F,
                   .frequency_penalty = 0.3F,
                   .logit_bias = {{5, 1.0F}}},
                  vocab_size, tokenizer.get());
  session.append("abc");
  long first = -1;
  long last = 0;
  const GenerateOptions options = {
      .max_tokens = 300, .stops = {"\n\nUser:", "aaaaaaaaaaaaaaaa"}, .stop_at_end_of_text = false};
  const GenerateResult result = session.generate(sampler, options, [&](std::string_view) {
    last = allocation_count();
    if (first < 0) first = last;
    return true;
  });
  EXPECT_EQ(result.tokens, 300U);
  return last - first;
}

// Every token may begin a stop string, or cuts a character: the paths that could need memory.
TEST(Allocation, NoneInTheLoopOfGeneration) {
  const auto tokenizer = std::make_shared<const Tokenizer>(
      byte_tokenizer({"\n\n", "User", "aaaaaaa", "\xf0\x9f", "caf\xc3"}));
  const auto vocab_size = static_cast<std::uint32_t>(tokenizer->size());
  const auto predict = [](std::span<const TokenId> history, std::span<float> logits) {
    std::ranges::fill(logits, 0.0F);
    logits[257 + history.size() % 5] = 4.0F;
    logits[1 + 'a'] = 3.0F;
  };
  EXPECT_EQ(allocations_between_tokens(tokenizer, vocab_size,
                                       std::make_unique<FakeBackend>(vocab_size, predict)),
            0);
}

TEST(Allocation, NoneOnTheCpuBackend) {
  const Config config = synthetic_config();
  const auto weights = std::make_shared<const Weights>(
      make_synthetic_weights(config, 1, DataType::Q8_0, DataType::F16));
  const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer());
  EXPECT_EQ(allocations_between_tokens(tokenizer, config.vocab_size,
                                       create_backend("cpu", weights, {.threads = 2})),
            0);
}

}  // namespace
}  // namespace gander
