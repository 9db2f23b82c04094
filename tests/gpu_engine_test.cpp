#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "engine/cache/state_cache.h"
#include "engine/sampler.h"
#include "engine/serving/engine.h"
#include "tests/support/engine_run.h"
#include "tests/support/fake_backend.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/test_device.h"
#include "tests/support/vocabularies.h"

// What an engine asks of a GPU beside steps: to sample, and to hold states.
namespace gander::gpu {
namespace {

Config engine_config(std::uint32_t vocab_size) {
  Config config = synthetic_config(64);
  config.width = config.ffn_width = 64;
  config.heads = 1;
  config.layers = 1;
  config.vocab_size = vocab_size;
  return config;
}

std::shared_ptr<const Weights> engine_weights(std::uint32_t vocab_size) {
  return std::make_shared<const Weights>(
      make_synthetic_weights(engine_config(vocab_size), 3, DataType::Q8_0));
}

std::unique_ptr<GpuBackend> engine_backend(const std::shared_ptr<const Weights>& weights,
                                           std::uint32_t slots, bool half_states = false) {
  return std::make_unique<GpuBackend>(
      weights, open_test_device(),
      GpuOptions{.slots = slots, .batch_rows = 32, .half_states = half_states});
}

State state_with(const Config& config, float value) {
  State state(config);
  for (std::size_t i = 0; i < state.values().size(); ++i) {
    state.values()[i] = value + 0.25F * static_cast<float>(i % 97);  // a half
  }
  return state;
}

std::vector<float> values_of(const State& state) {
  return {state.values().begin(), state.values().end()};
}

// As many tokens as fill no vector, and as fill them.
class GpuBatchSampling : public ::testing::TestWithParam<std::uint32_t> {};

// Beside rows of the largest logit, and those whose logits the CPU wants.
TEST_P(GpuBatchSampling, ChoosesWhatTheSamplerWouldFromTheseLogits) {
  const std::shared_ptr<const Weights> weights = engine_weights(GetParam());
  const std::size_t vocabulary = GetParam();
  constexpr std::uint32_t kSlots = 5;
  const std::unique_ptr<GpuBackend> sampling = engine_backend(weights, kSlots);
  const std::unique_ptr<GpuBackend> plain = engine_backend(weights, kSlots);
  const std::array<SamplerSettings, 3> settings = {{
      {.temperature = 0.9F, .top_p = 0.8F, .presence_penalty = 0.5F, .seed = 1},
      {.temperature = 1.5F, .top_k = 9, .frequency_penalty = 0.5F, .seed = 2},
      {.min_p = 0.05F, .repetition_penalty = 1.3F, .logit_bias = {{5, 4.0F}, {6, -9.0F}}},
  }};
  const std::array<std::uint32_t, 3> sampled = {4, 0, 2};  // slots
  std::vector<Sampler> samplers;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    samplers.emplace_back(settings[i], GetParam(), nullptr);
    samplers.back().accept(7);  // what was before counts
    ASSERT_TRUE(sampling->start_sampling(sampled[i], settings[i], samplers.back().memory()));
  }
  std::vector<TokenId> next = {1, 2, 3, 4, 5};
  int unlike_best = 0;
  for (int round = 0; round < 12; ++round) {
    std::vector<SequenceStep> steps, plain_steps;
    for (const std::uint32_t slot : {3, 0, 4, 1, 2}) {
      const bool is_sampled = std::ranges::find(sampled, slot) != sampled.end();
      plain_steps.push_back({slot, {&next[slot], 1}, Logits::Last});
      steps.push_back({slot, {&next[slot], 1}, Logits::Last, is_sampled});
    }
    std::vector<float> logits(kSlots * vocabulary), own(kSlots * vocabulary);
    std::vector<TokenId> best(kSlots), largest(kSlots);
    plain->step(plain_steps, logits, largest);
    sampling->step(steps, own, best);
    for (std::size_t row = 0; row < steps.size(); ++row) {
      const auto of_row = std::span(logits).subspan(row * vocabulary, vocabulary);
      const auto place = std::ranges::find(sampled, steps[row].slot);
      if (place == sampled.end()) {
        ASSERT_EQ(best[row], largest[row]);
        ASSERT_TRUE(
            std::ranges::equal(of_row, std::span(own).subspan(row * vocabulary, vocabulary)));
      } else {
        Sampler& sampler = samplers[static_cast<std::size_t>(place - sampled.begin())];
        ASSERT_EQ(best[row], sampler.sample(of_row)) << row;
        sampler.accept(best[row]);
        unlike_best += best[row] != largest[row] ? 1 : 0;
      }
    }
    for (std::size_t row = 0; row < steps.size(); ++row) next[steps[row].slot] = best[row];
  }
  EXPECT_GT(unlike_best, 9);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, GpuBatchSampling, ::testing::Values(70, 72));

TEST(GpuBatchSampling, SaysWhatItCannot) {
  const std::shared_ptr<const Weights> weights = engine_weights(70);
  const std::unique_ptr<GpuBackend> backend = engine_backend(weights, 2);
  const Sampler sampler({.typical_p = 0.5F}, 70, nullptr);
  EXPECT_FALSE(backend->start_sampling(0, sampler.settings(), sampler.memory()));
  GpuBackend alone(weights, open_test_device(), {});
  EXPECT_FALSE(alone.start_sampling(0, {}, Sampler({}, 70, nullptr).memory()));
}

TEST(GpuHeldStates, AreWhatTheSlotWas) {
  const std::shared_ptr<const Weights> weights = engine_weights(70);
  const Config& config = weights->config;
  for (const bool half : {false, true}) {
    const std::unique_ptr<GpuBackend> backend = engine_backend(weights, 2, half);
    const State one = state_with(config, 1.0F), other = state_with(config, -9.0F);
    State read(config);
    backend->write_state(one, 1);
    const std::unique_ptr<HeldState> held = backend->hold_state(1);
    ASSERT_NE(held, nullptr);
    backend->write_state(other, 1);
    held->read(read);
    EXPECT_EQ(values_of(read), values_of(one));
    held->write_to(0);
    backend->read_state(read, 0);
    EXPECT_EQ(values_of(read), values_of(one));
    backend->read_state(read, 1);
    EXPECT_EQ(values_of(read), values_of(other));
    const std::unique_ptr<HeldState> brought = backend->bring_state(other);
    brought->write_to(0);
    backend->read_state(read, 0);
    EXPECT_EQ(values_of(read), values_of(other));
    held->read(read);
    EXPECT_EQ(values_of(read), values_of(one));
  }
}

TEST(GpuHeldStates, AreAsManyAsSlotsAndPlanned) {
  const std::shared_ptr<const Weights> weights = engine_weights(70);
  const std::unique_ptr<GpuBackend> backend = engine_backend(weights, 3);
  std::vector<std::unique_ptr<HeldState>> held;
  for (int i = 0; i < 3; ++i) held.push_back(backend->hold_state(0));
  EXPECT_NE(held.back(), nullptr);
  EXPECT_EQ(backend->hold_state(0), nullptr);
  EXPECT_EQ(backend->bring_state(State(weights->config)), nullptr);
  held.pop_back();
  EXPECT_NE(backend->hold_state(0), nullptr);
  EXPECT_LE(backend->device().allocated_bytes(), backend->plan().total() + 4096);
  EXPECT_GE(backend->device().allocated_bytes(), backend->plan().total() * 9 / 10);
  EXPECT_EQ(engine_backend(weights, 1)->hold_state(0), nullptr);
}

TEST(GpuHeldStates, OtherThreadsReadAndBringThemDuringSteps) {
  const std::shared_ptr<const Weights> weights = engine_weights(70);
  const Config& config = weights->config;
  const std::unique_ptr<GpuBackend> backend = engine_backend(weights, 4);
  const State mine = state_with(config, 2.0F), theirs = state_with(config, -3.0F);
  backend->write_state(mine, 3);
  const std::unique_ptr<HeldState> held = backend->hold_state(3);
  std::atomic<bool> is_over{false};
  std::atomic<int> rounds{0};
  std::thread other([&] {
    State read(config);
    while (!is_over) {
      held->read(read);
      EXPECT_EQ(values_of(read), values_of(mine));
      const std::unique_ptr<HeldState> brought = backend->bring_state(theirs);
      ASSERT_NE(brought, nullptr);
      brought->read(read);
      EXPECT_EQ(values_of(read), values_of(theirs));
      ++rounds;
    }
  });
  const TokenId token = 5;
  std::vector<TokenId> best(1);
  for (int i = 0; i < 10 || (rounds < 3 && !HasFailure()); ++i) {
    const SequenceStep step = {0, {&token, 1}, Logits::Last};
    backend->step({&step, 1}, {}, best);
    // The emulation's lock is not fair.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  is_over = true;
  other.join();
}

constexpr std::uint32_t kEngineVocabulary = 259;

Model engine_model() {
  Model model = fake_model(std::make_shared<const Tokenizer>(byte_tokenizer({"ab", "\n\n"})),
                           kEngineVocabulary);
  model.weights = engine_weights(kEngineVocabulary);
  return model;
}

Request engine_request(std::string prompt, std::uint64_t seed) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = 9;
  // A text of a few letters: what may become a stop string comes often, and states are kept then.
  request.stops = {"abab", "ee", " a e", "b b"};
  request.stop_at_end_of_text = false;
  request.sampling = {.temperature = 1.0F, .top_p = 0.9F, .presence_penalty = 0.3F, .seed = seed};
  for (const char letter : {'a', 'b', 'e', ' '}) {
    request.sampling.logit_bias.emplace_back(letter + 1, 30.0F);
  }
  return request;
}

// More texts than slots, with turns that go on from states in the cache.
TEST(GpuEngine, TextsInCompanyAreThoseAlone) {
  const Model model = engine_model();
  constexpr int kTexts = 4;
  struct Talk {
    Heard::Choice first, second;
  };
  const auto prompt = [](int text) {
    return "This is the beginning of text " + std::to_string(text) + ":";
  };
  const auto next = [&](int text, const std::string& reply) {
    return prompt(text) + reply + "\nAnd more of it.";
  };
  std::vector<Talk> alone(kTexts);
  {
    Engine engine(model, engine_backend(model.weights, 1));
    for (int i = 0; i < kTexts; ++i) {
      alone[i].first = run_alone(engine, engine_request(prompt(i), i));
      alone[i].second = run_alone(engine, engine_request(next(i, alone[i].first.text), 100 + i));
    }
  }
  StateCache cache(model);
  Engine engine(model, engine_backend(model.weights, 2), {.prompt_chunk = 16, .snapshot_every = 16},
                &cache);
  const auto together = [&](const auto& request_of) {
    std::vector<std::shared_ptr<Heard>> heard;
    std::vector<Ticket> tickets;
    for (int i = 0; i < kTexts; ++i) {
      heard.push_back(std::make_shared<Heard>());
      tickets.push_back(engine.submit(request_of(i), Heard::sink(heard.back())));
    }
    for (const Ticket& ticket : tickets) ticket.wait();
    return heard;
  };
  const auto first = together([&](int i) { return engine_request(prompt(i), i); });
  int stopped = 0;
  for (int i = 0; i < kTexts; ++i) {
    EXPECT_EQ(first[i]->choice().text, alone[i].first.text) << i;
    stopped += first[i]->choice().finish.reason == FinishReason::StopString ? 1 : 0;
  }
  EXPECT_GT(stopped, 0);
  EXPECT_LT(stopped, kTexts);
  const auto second =
      together([&](int i) { return engine_request(next(i, alone[i].first.text), 100 + i); });
  for (int i = 0; i < kTexts; ++i) {
    EXPECT_EQ(second[i]->choice().text, alone[i].second.text) << i;
    EXPECT_GE(second[i]->choice().finish.usage.cached_tokens, prompt(i).size()) << i;
  }
}

// Choices go on from a state that is held, and beyond the slots from the same.
TEST(GpuEngine, ChoicesAreThoseOfOneAfterTheOther) {
  const Model model = engine_model();
  const auto texts = [&](std::uint32_t slots) {
    Engine engine(model, engine_backend(model.weights, slots));
    const auto heard = std::make_shared<Heard>();
    Request request = engine_request("Several ways to go on:", 5);
    request.choices = 4;
    engine.submit(std::move(request), Heard::sink(heard)).wait();
    std::vector<std::string> all;
    for (std::uint32_t i = 0; i < 4; ++i) all.push_back(heard->choice(i).text);
    return all;
  };
  EXPECT_EQ(texts(2), texts(1));
}

}  // namespace
}  // namespace gander::gpu
