// Many requests at once: who is served when, and that nobody's text depends on it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <random>
#include <set>
#include <thread>

#include "backend/cpu/cpu_backend.h"
#include "base/error.h"
#include "engine/serving/engine.h"
#include "engine/serving/event_queue.h"
#include "engine/serving/scheduler.h"
#include "engine/session.h"
#include "tests/support/count_allocations.h"
#include "tests/support/engine_run.h"
#include "tests/support/fake_backend.h"
#include "tests/support/slot_backend.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint32_t kLetterVocabulary = 257;
using Steps = std::span<const SequenceStep>;

Model letters_model() {
  return fake_model(std::make_shared<const Tokenizer>(byte_tokens()), kLetterVocabulary);
}

/// An engine whose text is the alphabet again and again.
struct Letters {
  explicit Letters(std::uint32_t slots, const EngineOptions& options = {},
                   std::function<void(Steps)> on_step = nullptr) {
    auto owned = std::make_unique<SlotBackend>(kLetterVocabulary, slots, alphabet());
    backend = owned.get();
    backend->on_step = std::move(on_step);
    engine.emplace(letters_model(), std::move(owned), options);
  }
  std::shared_ptr<Heard> submit(std::string prompt, std::uint32_t max_tokens, int priority = 0) {
    Request request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.priority = priority;
    request.sampling.temperature = 0.0F;
    return submit(std::move(request));
  }
  std::shared_ptr<Heard> submit(Request request, std::size_t limit = ~std::size_t{0}) {
    auto heard = std::make_shared<Heard>();
    tickets.push_back(engine->submit(std::move(request), Heard::sink(heard, limit)));
    return heard;
  }
  void wait() const {
    for (const Ticket& ticket : tickets) ticket.wait();
  }

  SlotBackend* backend;
  std::vector<Ticket> tickets;
  std::optional<Engine> engine;
};

/// Holds the first step back until all requests are there.
struct Gate {
  std::function<void(Steps)> holding() {
    return [this](Steps) { open.wait(); };
  }
  std::latch open{1};
};

std::vector<std::size_t> budget_shares(std::vector<PromptShare> prompts, std::size_t budget,
                                       std::size_t turn = 0) {
  share_prompt_budget(prompts, budget, turn);
  std::vector<std::size_t> counts;
  for (const PromptShare& prompt : prompts) counts.push_back(prompt.count);
  return counts;
}

TEST(PromptBudget, IsSharedEvenlyAndWhatIsLeftInOrder) {
  EXPECT_THAT(budget_shares({{0, 100}}, 64), ElementsAre(64));
  EXPECT_THAT(budget_shares({{0, 100}, {0, 100}}, 64), ElementsAre(32, 32));
  EXPECT_THAT(budget_shares({{0, 100}, {0, 4}, {0, 100}}, 66), ElementsAre(40, 4, 22));
  EXPECT_THAT(budget_shares({{0, 2}, {0, 3}}, 64), ElementsAre(2, 3));
}

TEST(PromptBudget, GoesToTheHighestPriorityFirst) {
  EXPECT_THAT(budget_shares({{1, 50}, {0, 100}, {0, 100}}, 64), ElementsAre(50, 7, 7));
  EXPECT_THAT(budget_shares({{1, 100}, {0, 100}}, 64), ElementsAre(64, 0));
}

TEST(PromptBudget, TakesTurnsWhereItIsSmallerThanTheNumberOfPrompts) {
  EXPECT_THAT(budget_shares({{0, 9}, {0, 9}, {0, 9}}, 2, 0), ElementsAre(1, 1, 0));
  EXPECT_THAT(budget_shares({{0, 9}, {0, 9}, {0, 9}}, 2, 1), ElementsAre(0, 1, 1));
  EXPECT_THAT(budget_shares({{0, 9}, {0, 9}, {0, 9}}, 2, 2), ElementsAre(1, 0, 1));
}

TEST(EngineSchedule, ALongPromptStallsNobody) {
  Gate gate;
  Letters letters(4, {.prompt_chunk = 16}, gate.holding());
  const auto first = letters.submit("a", 60);
  const auto longest = letters.submit(std::string(400, 'm'), 5);
  const auto second = letters.submit("a", 60);
  const auto short_one = letters.submit("xyz", 5);
  gate.open.count_down();
  letters.wait();
  EXPECT_EQ(first->choice().text, second->choice().text);
  EXPECT_EQ(longest->choice().text, "nopqr");
  EXPECT_EQ(short_one->choice().text, "abcde");
  // The long prompt takes 401 / 16 steps; the others generate in each of them.
  const std::vector<SlotBackend::Step> steps = letters.backend->steps();
  std::size_t mixed = 0;
  for (const SlotBackend::Step& step : steps) {
    EXPECT_LE(step.tokens, 16U + 3U);
    EXPECT_LE(step.longest, 16U);
    if (step.tokens > step.sequences && step.sequences >= 3) ++mixed;
  }
  EXPECT_GE(mixed, 20U);
  // 60 tokens each, two steps of reading, and none lost to waiting.
  EXPECT_LE(steps.size(), 64U);
}

TEST(EngineSchedule, AShortPromptPassesALongOne) {
  Gate gate;
  std::size_t step = 0;
  std::size_t at_finish = 0;
  Letters letters(2, {.prompt_chunk = 8}, [&](Steps) {
    gate.open.wait();
    ++step;
  });
  letters.submit(std::string(800, 'm'), 1);
  letters.tickets.push_back(
      letters.engine->submit({.prompt = "abcdefghij", .max_tokens = 1}, [&](const Event& event) {
        if (event.finish != nullptr) at_finish = step;
        return true;
      }));
  gate.open.count_down();
  letters.wait();
  EXPECT_LE(at_finish, 5U) << "four tokens a step";
  EXPECT_GE(step, 100U);
}

TEST(EngineSchedule, HigherPrioritiesAreServedFirst) {
  Gate gate;
  Letters letters(1, {}, gate.holding());
  std::mutex mutex;
  std::vector<std::string> order;
  for (const auto& [name, priority] : std::vector<std::pair<std::string, int>>{
           {"first", 0}, {"low", -1}, {"normal", 0}, {"high", 5}, {"next", 0}}) {
    Request request;
    request.prompt = name;
    request.max_tokens = 3;
    request.priority = priority;
    letters.tickets.push_back(
        letters.engine->submit(std::move(request), [&, n = name](auto& event) {
          if (event.finish != nullptr) {
            const std::lock_guard lock(mutex);
            order.push_back(n);
          }
          return true;
        }));
    // The first one has the slot before the others come.
    while (name == "first" && letters.engine->statistics().running == 0) std::this_thread::yield();
  }
  gate.open.count_down();
  letters.wait();
  EXPECT_THAT(order, ElementsAre("first", "high", "normal", "next", "low"));
}

TEST(EngineSchedule, AFullQueueRefuses) {
  Gate gate;
  Letters letters(1, {.max_waiting = 2, .max_waiting_bytes = 2000}, gate.holding());
  letters.submit("a", 3);
  while (letters.engine->statistics().running == 0) std::this_thread::yield();
  letters.submit("b", 3);
  EXPECT_THAT([&] { letters.submit(std::string(3000, 'c'), 3); },
              testing::Throws<Refused>(testing::Property(&Refused::waiting, 1U)));
  letters.submit("c", 3);
  try {
    letters.submit("d", 3);
    ADD_FAILURE() << "not refused";
  } catch (const Refused& refused) {
    EXPECT_EQ(refused.waiting(), 2U);
    EXPECT_STREQ(refused.what(),
                 "the queue is full: 2 requests wait for one of 1 slots; try again later");
  }
  EXPECT_EQ(letters.engine->statistics().waiting, 2U);
  EXPECT_EQ(letters.engine->statistics().refused, 2U);
  EXPECT_FALSE(letters.engine->wait_until_idle(std::chrono::milliseconds(1)));
  letters.engine->drain();
  EXPECT_THAT([&] { letters.submit("e", 3); },
              testing::ThrowsMessage<Refused>(HasSubstr("shutting down")));
  gate.open.count_down();
  EXPECT_TRUE(letters.engine->wait_until_idle(std::chrono::seconds(60)));
  const EngineStatistics statistics = letters.engine->statistics();
  EXPECT_EQ(statistics.finished[static_cast<std::size_t>(FinishReason::Length)], 3U);
  EXPECT_EQ(statistics.requests, 3U);
  EXPECT_EQ(statistics.generated_tokens, 9U);
  EXPECT_EQ(statistics.prompt_tokens, 6U);
}

TEST(EngineSchedule, CancellingFreesTheSlotWithinAStep) {
  Gate gate;
  int steps = 0;
  std::optional<Letters> letters;
  letters.emplace(1, EngineOptions{}, [&](Steps) {
    gate.open.wait();
    if (++steps == 10) letters->tickets[0].cancel();
  });
  Request request;
  request.prompt = "a";
  request.max_tokens = 1000000;
  request.keep_end = true;
  const auto endless = letters->submit(std::move(request));
  const auto next = letters->submit("a", 2);
  gate.open.count_down();
  letters->wait();
  EXPECT_EQ(endless->choice().finish.reason, FinishReason::Cancelled);
  EXPECT_EQ(endless->choice().finishes, 1);
  EXPECT_EQ(endless->choice().finish.usage.generated_tokens, 10U) << "the step's own token came";
  // The end is that of the text: its last token waits.
  const SavedSequence& end = *endless->choice().finish.end;
  const std::string text = letters_model().tokenizer->decode(end.tokens) + end.pending;
  EXPECT_EQ(text, "a" + endless->choice().text);
  EXPECT_EQ(next->choice().text, "bc");
  EXPECT_LE(steps, 10 + 3);
}

TEST(EngineSchedule, CancellingWhileItWaitsOrReads) {
  Gate gate;
  Letters letters(1, {.prompt_chunk = 4}, gate.holding());
  Request request;
  request.prompt = "abcdefghijkl";
  request.keep_end = true;
  const auto reading = letters.submit(std::move(request));
  while (letters.engine->statistics().running == 0) std::this_thread::yield();
  Request second;
  second.prompt = "xyz";
  second.choices = 3;
  const auto waiting = letters.submit(std::move(second));
  letters.tickets[0].cancel();
  letters.tickets[1].cancel();
  gate.open.count_down();
  letters.wait();
  EXPECT_EQ(reading->choice().finish.reason, FinishReason::Cancelled);
  EXPECT_EQ(reading->choice().finish.end->tokens.size(), 4U);
  EXPECT_EQ(reading->choice().finish.end->pending, "defghijkl");
  ASSERT_EQ(waiting->choices(), 3U);
  EXPECT_EQ(waiting->choice(2).finish.reason, FinishReason::Cancelled);
  EXPECT_EQ(letters.backend->tokens(), 4U);
}

TEST(EngineSchedule, NothingOfACancelledTextIsInTheNext) {
  // After x half a character again and again; after anything else a letter.
  auto owned = std::make_unique<SlotBackend>(
      kLetterVocabulary, 1, [](std::uint64_t, std::size_t, TokenId last, std::span<float> logits) {
        std::ranges::fill(logits, 0.0F);
        const bool half = last == 'x' + 1 || last == 0xc3 + 1;
        logits[half ? 0xc3 + 1 : 'b' + 1] = 30.0F;
      });
  Ticket ticket;
  Gate gate;
  int steps = 0;
  owned->on_step = [&](Steps) {
    gate.open.wait();
    if (++steps == 4) ticket.cancel();
  };
  Engine engine(letters_model(), std::move(owned));
  const auto heard = std::make_shared<Heard>();
  ticket = engine.submit({.prompt = "x", .max_tokens = 1000000}, Heard::sink(heard));
  gate.open.count_down();
  ticket.wait();
  EXPECT_EQ(heard->choice().finish.reason, FinishReason::Cancelled);
  EXPECT_EQ(run_alone(engine, {.prompt = "y", .max_tokens = 3}).text, "bbb");
}

Request endless_until(std::chrono::steady_clock::time_point deadline) {
  Request request;
  request.prompt = "a";
  request.max_tokens = 1U << 30;
  request.deadline = deadline;
  return request;
}

TEST(EngineSchedule, DeadlinesEndWhatWaitsAndWhatRuns) {
  Letters letters(1);
  const auto now = std::chrono::steady_clock::now();
  const auto running = letters.submit(endless_until(now + std::chrono::milliseconds(60)));
  Request late;
  late.prompt = "a";
  late.deadline = now + std::chrono::milliseconds(5);
  const auto waiting = letters.submit(std::move(late));
  letters.tickets[1].wait();
  EXPECT_FALSE(letters.tickets[0].wait_for(std::chrono::milliseconds(0)));
  letters.wait();
  EXPECT_EQ(waiting->choice().finish.reason, FinishReason::Deadline);
  EXPECT_EQ(waiting->choice().finish.usage.generated_tokens, 0U);
  EXPECT_EQ(running->choice().finish.reason, FinishReason::Deadline);
  EXPECT_GT(running->choice().finish.usage.generated_tokens, 0U);
  EXPECT_EQ(name(FinishReason::Deadline), "deadline");
}

// A text given as tokens is not lost with the request.
TEST(EngineSchedule, TheEndOfWhatOnlyWaitedHasAllItsText) {
  Letters letters(1);
  const auto now = std::chrono::steady_clock::now();
  letters.submit(endless_until(now + std::chrono::milliseconds(60)));
  Request late;
  late.start = std::make_shared<const SavedSequence>(SavedSequence{nullptr, {}, "before "});
  late.tokens = letters_model().tokenizer->encode("after");
  late.keep_end = true;
  late.deadline = now + std::chrono::milliseconds(5);
  const auto waiting = letters.submit(std::move(late));
  letters.wait();
  ASSERT_NE(waiting->choice().finish.end, nullptr);
  EXPECT_EQ(waiting->choice().finish.end->pending, "before after");
}

// Choices whose prompt is read wait for slots behind those of others.
TEST(EngineSchedule, CancellingAndDeadlinesEndChoicesThatWait) {
  for (const bool by_deadline : {false, true}) {
    Letters letters(2);
    Request endless;
    endless.prompt = "a";
    endless.max_tokens = 1U << 30;
    endless.choices = 3;
    letters.submit(std::move(endless));
    Request second;
    second.prompt = "bc";
    second.max_tokens = 1;
    second.choices = 2;
    if (by_deadline) {
      second.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
    }
    const auto heard = letters.submit(std::move(second));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (!by_deadline) letters.tickets[1].cancel();
    EXPECT_TRUE(letters.tickets[1].wait_for(std::chrono::seconds(5)));
    EXPECT_EQ(heard->choice(1).finish.reason,
              by_deadline ? FinishReason::Deadline : FinishReason::Cancelled);
    letters.tickets[0].cancel();
    letters.wait();
  }
}

TEST(EngineSchedule, ASinkThatThrowsOrRefusesEndsItsRequestAlone) {
  Letters letters(4);
  const auto expected = letters.submit("a", 50);
  Request request;
  request.prompt = "a";
  request.max_tokens = 1000000;
  const auto refusing = letters.submit(std::move(request), 3);
  int calls = 0;
  Request bad;
  bad.prompt = "a";
  bad.max_tokens = 1000000;
  bad.choices = 2;
  letters.tickets.push_back(letters.engine->submit(std::move(bad), [&](const Event&) -> bool {
    ++calls;
    throw 3;  // NOLINT(hicpp-exception-baseclass): anything may come
  }));
  const auto other = letters.submit("a", 50);
  letters.wait();
  EXPECT_EQ(refusing->choice().finish.reason, FinishReason::Cancelled);
  EXPECT_EQ(refusing->choice().finish.usage.generated_tokens, 4U);
  EXPECT_LE(calls, 4) << "a piece of text, perhaps one of the other choice, and both finishes";
  EXPECT_GE(calls, 3);
  EXPECT_EQ(expected->choice().text.size(), 50U);
  EXPECT_EQ(other->choice().text, expected->choice().text);
}

TEST(EngineSchedule, ASlowReaderIsCutOffAndHoldsNobodyUp) {
  Letters letters(2);
  const auto queue = std::make_shared<EventQueue>(100);
  Request request;
  request.prompt = "a";
  request.max_tokens = 1U << 30;
  const Ticket slow = letters.engine->submit(std::move(request), queue->sink());
  const auto other = letters.submit("a", 200);
  letters.wait();
  slow.wait();  // nobody has read yet
  std::string text;
  while (true) {
    const OwnedEvent event = queue->next();
    text += event.text;
    if (!event.finish) continue;
    EXPECT_EQ(event.finish->reason, FinishReason::Cancelled);
    break;
  }
  EXPECT_EQ(text.size(), 100U);
  EXPECT_EQ(other->choice().text.substr(0, 100), text);
  EXPECT_TRUE(letters.engine->wait_until_idle(std::chrono::seconds(10)));
}

TEST(EngineSchedule, ABackendThatFailsEndsWhatItRan) {
  Gate gate;
  int step = 0;
  Letters letters(2, {}, [&](Steps) {
    gate.open.wait();
    if (++step == 3) fail("the device is lost");  // once: both have lost their state
  });
  const auto first = letters.submit("a", 5);
  Request request;
  request.prompt = "b";
  request.choices = 3;
  const auto second = letters.submit(std::move(request));
  gate.open.count_down();
  letters.wait();
  EXPECT_EQ(first->choice().finish.error, "the device is lost");
  ASSERT_EQ(second->choices(), 3U);
  EXPECT_EQ(second->choice(0).finish.error, "the device is lost");
  const auto third = letters.submit("a", 5);
  letters.wait();
  EXPECT_EQ(third->choice().text, "bcdef");
}

TEST(EngineSchedule, EndingTheEngineCancelsWhatIsLeft) {
  std::vector<std::shared_ptr<Heard>> heard;
  std::vector<Ticket> tickets;
  {
    Letters letters(2);
    for (int i = 0; i < 6; ++i) {
      Request request;
      request.prompt = "a";
      request.max_tokens = 1U << 30;
      request.choices = i == 1 ? 2 : 1;
      heard.push_back(letters.submit(std::move(request)));
    }
    heard[0]->wait_for_text(10);
    tickets = letters.tickets;
  }
  for (std::size_t i = 0; i < heard.size(); ++i) {
    EXPECT_TRUE(tickets[i].wait_for(std::chrono::seconds(0)));
    EXPECT_EQ(heard[i]->choices(), i == 1 ? 2U : 1U);
    EXPECT_EQ(heard[i]->choice().finish.reason, FinishReason::Cancelled);
    EXPECT_EQ(heard[i]->choice().finishes, 1);
    tickets[i].cancel();  // harmless
  }
}

TEST(EngineSchedule, TokensAllocateNothing) {
  std::vector<long> allocations;
  allocations.reserve(10000);
  const auto count = [&](Steps) { allocations.push_back(allocation_count()); };
  // The test's own backend allocates for a sequence's logits: as many in each step.
  Letters letters(2, {}, count);
  for (const float temperature : {0.0F, 1.0F}) {
    Request request;
    request.prompt = "a";
    request.max_tokens = 1000;
    request.sampling = {.temperature = temperature, .top_p = 0.9F, .frequency_penalty = 0.1F};
    request.stops = {"never"};
    request.stop_at_end_of_text = false;
    letters.tickets.push_back(
        letters.engine->submit(std::move(request), [](const Event&) { return true; }));
  }
  letters.wait();
  ASSERT_GT(allocations.size(), 900U);
  EXPECT_LE(allocations[800] - allocations[400], 400 * 2) << "those of the backend";
}

// Prompts and settings of all kinds, in any company: each text, and the state after it, is that of
// a session of its own.
void check_random_schedules(const Model& model, std::uint32_t slots, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&random](std::uint64_t n) { return random() % n; };
  const Tokenizer& tokenizer = *model.tokenizer;
  const auto backend = [&](std::uint32_t count) {
    return std::make_unique<CpuBackend>(model.weights, 2, best_kernels(), count);
  };
  std::vector<Request> requests;
  std::vector<Session::Snapshot> ends;
  std::vector<std::string> texts;
  Session session(model, backend(1));
  for (int i = 0; i < 14; ++i) {
    Request request;
    for (std::uint64_t n = 1 + below(i % 4 == 0 ? 150 : 20); n > 0; --n) {
      request.prompt += static_cast<char>(1 + below(100));
    }
    request.sampling = {.temperature = below(3) == 0 ? 0.0F : 1.0F,
                        .top_k = static_cast<std::uint32_t>(below(2) * 20),
                        .top_p = below(2) == 0 ? 1.0F : 0.8F,
                        .frequency_penalty = below(2) == 0 ? 0.0F : 0.3F,
                        .seed = random()};
    request.max_tokens = static_cast<std::uint32_t>(1 + below(12));
    if (below(2) == 0) request.stops = {std::string(1, static_cast<char>(1 + below(100)))};
    request.keep_end = true;
    request.priority = static_cast<int>(below(3));
    session.reset();
    session.append(request.prompt);
    Sampler sampler(request.sampling, model.config().vocab_size, &tokenizer);
    texts.push_back(
        session
            .generate(sampler, {.max_tokens = request.max_tokens, .stops = request.stops}, nullptr)
            .text);
    ends.push_back(session.snapshot());
    requests.push_back(std::move(request));
  }
  Engine engine(model, backend(slots),
                {.prompt_chunk = static_cast<std::uint32_t>(1 + below(40)),
                 .sampling_threads = static_cast<unsigned>(1 + below(2))});
  std::vector<std::shared_ptr<Heard>> heard;
  std::vector<Ticket> tickets;
  for (Request& request : requests) {
    heard.push_back(std::make_shared<Heard>());
    tickets.push_back(engine.submit(std::move(request), Heard::sink(heard.back())));
    if (below(3) == 0) std::this_thread::sleep_for(std::chrono::microseconds(below(3000)));
  }
  for (std::size_t i = 0; i < tickets.size(); ++i) {
    tickets[i].wait();
    const Heard::Choice& choice = heard[i]->choice();
    ASSERT_EQ(choice.text, texts[i]) << "request " << i << " of seed " << seed;
    ASSERT_EQ(choice.finishes, 1);
    ASSERT_EQ(choice.events_after_finish, 0);
    ASSERT_EQ(choice.finish.end->tokens, ends[i].tokens);
    ASSERT_TRUE(std::ranges::equal(choice.finish.end->state->values(), ends[i].state.values()))
        << "request " << i << " of seed " << seed;
  }
}

TEST(EngineSchedule, EachTextIsThatOfItsRequestAlone) {
  Config config = synthetic_config();
  config.layers = 2;
  Model model;
  model.path = "synthetic";
  model.weights =
      std::make_shared<const Weights>(make_synthetic_weights(config, 5, DataType::Q8_0));
  const std::uint32_t vocabulary = model.config().vocab_size;
  std::vector<std::string> tokens = byte_tokens({"ab", "abc", "\n\n", " a", "  "});
  ASSERT_LE(tokens.size(), vocabulary);
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(tokens));
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    check_random_schedules(model, seed == 0 ? 1 : static_cast<std::uint32_t>(3 + seed), seed);
  }
}

}  // namespace
}  // namespace gander
