#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "tests/support/backend_check.h"
#include "tests/support/count_allocations.h"
#include "tests/support/synthetic_model.h"

// Steps of many sequences on the CPU: the bits of each are those of its text alone.
namespace gander {
namespace {

std::shared_ptr<const Weights> batch_weights(Config config, DataType type) {
  config.layers = 2;
  return std::make_shared<const Weights>(make_synthetic_weights(config, 1, type));
}

Config one_head_of(std::uint32_t size) {
  Config config = synthetic_config(size);
  config.heads = 1;
  config.width = size;
  return config;
}

/// Some texts, and what each leaves alone in a backend of one slot.
struct Texts {
  Texts(const std::shared_ptr<const Weights>& weights, const Kernels& kernels,
        std::uint32_t count) {
    CpuBackend alone(weights, 1, kernels);
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      tokens.push_back(some_tokens(weights->config, 20 + 37 * slot, slot));
      alone.reset();
      logits.push_back(logits_of(alone, tokens.back()));
      states.push_back(state_of(alone));
    }
  }
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<float>> logits, states;
};

/// A step of some next tokens of some of the texts, and what it must return.
struct RandomStep {
  RandomStep(const Texts& texts, std::vector<std::size_t>& read, std::mt19937& random) {
    std::vector<std::uint32_t> order;
    for (std::uint32_t slot = 0; slot < read.size(); ++slot) order.push_back(slot);
    std::shuffle(order.begin(), order.end(), random);
    for (const std::uint32_t slot : order) {
      const std::size_t left = texts.tokens[slot].size() - read[slot];
      if (left == 0 || random() % 4 == 0) continue;
      const std::size_t count = std::min<std::size_t>(left, 1 + random() % 3 * (random() % 40));
      const auto which = static_cast<Logits>(random() % 3);
      steps.push_back({slot, std::span(texts.tokens[slot]).subspan(read[slot], count), which});
      read[slot] += count;
      std::size_t rows = which == Logits::All ? count : 0;
      if (which == Logits::Last) rows = 1;
      const std::size_t vocabulary = texts.logits[slot].size() / texts.tokens[slot].size();
      for (std::size_t row = read[slot] - rows; row < read[slot]; ++row) {
        const auto of_row = std::span(texts.logits[slot]).subspan(row * vocabulary, vocabulary);
        logits.insert(logits.end(), of_row.begin(), of_row.end());
        best.push_back(static_cast<TokenId>(std::ranges::max_element(of_row) - of_row.begin()));
      }
    }
  }
  std::vector<SequenceStep> steps;
  std::vector<float> logits;
  std::vector<TokenId> best;
};

// Steps of up to five sequences, shorter and longer than a chunk, cut at random.
void check_schedules(const std::shared_ptr<const Weights>& weights, const Kernels& kernels) {
  constexpr std::uint32_t kSlots = 5;
  const Texts texts(weights, kernels, kSlots);
  std::mt19937 random(7);
  for (const unsigned threads : {1U, 3U}) {
    CpuBackend backend(weights, threads, kernels, kSlots);
    std::vector<std::size_t> read(kSlots);
    while (!std::ranges::equal(read, texts.tokens, {}, {}, &std::vector<TokenId>::size)) {
      const RandomStep step(texts, read, random);
      std::vector<float> logits(step.logits.size());
      std::vector<TokenId> best(step.best.size());
      backend.step(step.steps, logits, best);
      ASSERT_EQ(logits, step.logits) << kernels.instruction_set;
      ASSERT_EQ(best, step.best) << kernels.instruction_set;
    }
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      ASSERT_EQ(state_of(backend, slot), texts.states[slot])
          << kernels.instruction_set << ", slot " << slot;
    }
  }
}

TEST(CpuBatch, AnyScheduleLeavesTheSameBits) {
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    check_schedules(batch_weights(synthetic_config(64), DataType::Q8_0), **kernels);
  }
  check_schedules(batch_weights(synthetic_config(256), DataType::Q4_K), best_kernels());
  check_schedules(batch_weights(odd_config(), DataType::F16), best_kernels());
}

// One token each of some sequences: every remainder of the kernels' blocks of rows.
TEST(CpuBatch, AnyNumberOfSequences) {
  constexpr std::uint32_t kSlots = 20;
  for (const DataType type : {DataType::Q4_K, DataType::Q6_K, DataType::Q8_0, DataType::F16}) {
    const auto weights = batch_weights(one_head_of(256), type);
    const std::size_t vocabulary = weights->config.vocab_size;
    const std::vector<TokenId> tokens = some_tokens(weights->config, kSlots);
    for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
      std::vector<float> expected;
      CpuBackend alone(weights, 1, **kernels);
      for (const TokenId token : tokens) {
        alone.reset();
        const std::vector<float> logits = logits_of(alone, {token});
        expected.insert(expected.end(), logits.begin(), logits.end());
      }
      CpuBackend together(weights, 2, **kernels, kSlots);
      for (const std::uint32_t count : {1U, 3U, 7U, 14U, kSlots}) {
        std::vector<SequenceStep> steps;
        for (std::uint32_t slot = 0; slot < count; ++slot) {
          together.reset(slot);
          steps.push_back({slot, {&tokens[slot], 1}, Logits::Last});
        }
        std::vector<float> actual(count * vocabulary);
        together.step(steps, actual);
        ASSERT_TRUE(std::equal(actual.begin(), actual.end(), expected.begin()))
            << name(type) << " " << (*kernels)->instruction_set << ", " << count << " sequences";
      }
    }
  }
}

TEST(CpuBatch, OtherSlotsStayAsTheyAre) {
  const auto weights = batch_weights(odd_config(), DataType::F32);
  CpuBackend backend(weights, 2, best_kernels(), 4);
  const std::vector<TokenId> text = some_tokens(weights->config, 3);
  const std::vector<SequenceStep> all = {{0, text}, {1, text}, {2, text}, {3, text}};
  backend.step(all, {});
  const std::vector<float> before = state_of(backend, 1);
  const std::vector<SequenceStep> some = {{3, text}, {0, text}};
  backend.step(some, {});
  EXPECT_EQ(state_of(backend, 1), before);
  EXPECT_EQ(state_of(backend, 2), before);
  EXPECT_NE(state_of(backend, 3), before);
  EXPECT_EQ(state_of(backend, 3), state_of(backend, 0));
  backend.reset(3);
  EXPECT_NE(state_of(backend, 0), before);
  EXPECT_EQ(state_of(backend, 3), std::vector<float>(before.size()));
}

TEST(CpuBatch, LogitsOrTheBestAloneAreTheSame) {
  const auto weights = batch_weights(odd_config(), DataType::F16);
  const std::vector<TokenId> text = some_tokens(weights->config, 150);
  const std::vector<SequenceStep> steps = {{1, text, Logits::All}, {0, text, Logits::Last}};
  CpuBackend backend(weights, 2, best_kernels(), 2);
  std::vector<float> logits((text.size() + 1) * weights->config.vocab_size);
  std::vector<TokenId> best(text.size() + 1);
  backend.step(steps, logits, best);
  for (std::size_t row = 0; row < best.size(); ++row) {
    const std::size_t vocabulary = weights->config.vocab_size;
    const auto of_row = std::span(logits).subspan(row * vocabulary, vocabulary);
    EXPECT_EQ(best[row], std::ranges::max_element(of_row) - of_row.begin()) << row;
  }
  for (std::uint32_t slot = 0; slot < 2; ++slot) backend.reset(slot);
  std::vector<float> logits_alone(logits.size());
  backend.step(steps, logits_alone);
  EXPECT_EQ(logits_alone, logits);
  for (std::uint32_t slot = 0; slot < 2; ++slot) backend.reset(slot);
  std::vector<TokenId> best_alone(best.size());
  backend.step(steps, {}, best_alone);
  EXPECT_EQ(best_alone, best);
}

TEST(CpuBatch, StepsDoNotAllocateAfterTheFirst) {
  const auto weights = batch_weights(synthetic_config(64), DataType::Q8_0);
  const std::vector<TokenId> text = some_tokens(weights->config, 140);
  const std::vector<SequenceStep> steps = {{0, text, Logits::All}, {1, {text.data(), 1}}};
  CpuBackend backend(weights, 2, best_kernels(), 2);
  std::vector<TokenId> best(text.size() + 1);
  backend.step(steps, {}, best);
  const long before = allocation_count();
  for (int i = 0; i < 3; ++i) backend.step(steps, {}, best);
  EXPECT_EQ(allocation_count() - before, 0);
}

}  // namespace
}  // namespace gander
