// Many texts at once on the built-in model. $GANDER_LOAD sets how many (1,000 takes half a minute).

#include <gtest/gtest.h>

#include <cstdlib>

#include "backend/backend.h"
#include "bench/process_memory.h"
#include "engine/cache/state_cache.h"
#include "engine/serving/engine.h"
#include "engine/session.h"
#include "tests/support/engine_run.h"

namespace gander {
namespace {

constexpr std::uint32_t kLoadKinds = 10;
constexpr std::uint32_t kLoadTokens = 8;

Request load_request(std::uint32_t kind) {
  static constexpr const char* kPrompts[] = {"Once upon a time", "The dog", "Lily and Tom",
                                             "One day, a big", "It was raining"};
  Request request;
  request.prompt = kPrompts[kind % 5];
  request.max_tokens = kLoadTokens;
  request.sampling = {.temperature = 1.0F, .top_p = 0.9F, .presence_penalty = 0.2F, .seed = kind};
  request.stops = {"\n\nUser:", "."};
  return request;
}

TEST(EngineLoad, ManyTextsAtOnceAreEachTheirOwn) {
  const char* const wanted = std::getenv("GANDER_LOAD");
  const std::uint32_t count = wanted != nullptr ? std::atoi(wanted) : 150;
  const Model model = open_model(builtin_model_path());
  std::vector<std::string> expected;
  {
    Session session(model, create_backend("cpu", model.weights));
    for (std::uint32_t kind = 0; kind < kLoadKinds; ++kind) {
      const Request request = load_request(kind);
      Sampler sampler(request.sampling, model.config().vocab_size, model.tokenizer.get());
      session.reset();
      session.append(request.prompt);
      expected.push_back(
          session.generate(sampler, {.max_tokens = kLoadTokens, .stops = request.stops}, nullptr)
              .text);
    }
  }
  constexpr std::uint32_t kSlots = 32;
  StateCache cache(model, {.memory_bytes = 64U << 20});
  Engine engine(model, create_backend("cpu", model.weights, {.slots = kSlots}),
                {.max_waiting = count}, &cache);
  const std::uint64_t memory_before = memory_status("RssAnon");
  std::vector<std::shared_ptr<Heard>> heard;
  std::vector<Ticket> tickets;
  for (std::uint32_t i = 0; i < count; ++i) {
    heard.push_back(std::make_shared<Heard>());
    tickets.push_back(engine.submit(load_request(i % kLoadKinds), Heard::sink(heard.back())));
  }
  std::uint64_t most = 0;
  for (const Ticket& ticket : tickets) {
    ticket.wait();
    most = std::max(most, memory_status("RssAnon"));
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSERT_EQ(heard[i]->choice().text, expected[i % kLoadKinds]) << i;
    ASSERT_EQ(heard[i]->choice().finishes, 1);
  }
  // The cache, the slots' samplers and marks, and little for each request.
  EXPECT_LE(most - std::min(most, memory_before),
            (64U << 20) + kSlots * bytes_per_slot(model.config()) + (32U << 20) + count * 8192);
}

}  // namespace
}  // namespace gander
