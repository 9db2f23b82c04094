// What an engine takes from a state cache and leaves there, counted in tokens that the backend
// read.

#include <gtest/gtest.h>

#include <thread>

#include "engine/cache/state_cache.h"
#include "engine/serving/engine.h"
#include "tests/support/engine_run.h"
#include "tests/support/fake_backend.h"
#include "tests/support/slot_backend.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

constexpr std::uint32_t kChatVocabulary = 259;

Model chatting_model() {
  return fake_model(std::make_shared<const Tokenizer>(byte_tokens({"\n\n", "ab"})),
                    kChatVocabulary);
}

/// An engine with a cache, and how many tokens its backend read.
struct Chat {
  explicit Chat(const CacheOptions& cache_options, const EngineOptions& options = {},
                std::uint32_t slots = 2)
      : model(chatting_model()), cache(model, cache_options) {
    auto owned = std::make_unique<SlotBackend>(kChatVocabulary, slots, babbling(kChatVocabulary));
    backend = owned.get();
    engine.emplace(model, std::move(owned), options, &cache);
  }
  Heard::Choice say(const std::string& prompt, std::uint64_t seed = 1,
                    std::vector<std::string> stops = {"U:"}, std::uint32_t max_tokens = 50) {
    Request request;
    request.prompt = prompt;
    request.max_tokens = max_tokens;
    request.stops = std::move(stops);
    request.sampling.seed = seed;
    request.stop_at_end_of_text = false;
    const std::uint64_t before = backend->tokens();
    Heard::Choice choice = run_alone(*engine, std::move(request));
    read = backend->tokens() - before;
    return choice;
  }

  Model model;
  StateCache cache;
  SlotBackend* backend;
  std::optional<Engine> engine;
  std::uint64_t read = 0;  ///< by the last say()
};

std::string long_text(std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "some words, ";
  return text.substr(0, bytes);
}

/// A turn whose reply a client can send back: valid UTF-8. Returns prompt and reply.
std::string take_turn(Chat& chat, std::size_t bytes) {
  for (std::uint64_t seed = 1;; ++seed) {
    const std::string prompt = long_text(bytes) + std::to_string(seed);
    const Heard::Choice reply = chat.say(prompt, seed);
    const bool is_valid = reply.text.find("\ufffd") == std::string::npos;
    if (is_valid && reply.text.size() >= 20) return prompt + reply.text;
  }
}

TEST(EngineCache, ASecondTurnReadsOnlyWhatIsNew) {
  Chat chat({});
  const std::string first = take_turn(chat, 2000);
  const std::string more = "\n\nU: more\n\nA:";
  const Heard::Choice next = chat.say(first + more);
  const std::uint64_t generated = next.finish.usage.generated_tokens;
  EXPECT_GE(next.finish.usage.cached_tokens, 2000U);
  // What is new, and a token that waited; and of what was generated all but the last.
  EXPECT_LE(chat.read, more.size() + 2 + generated + 3);
  EXPECT_LE(next.finish.usage.prompt_tokens - next.finish.usage.cached_tokens, more.size() + 2);
}

TEST(EngineCache, TheTextIsTheSameWithAndWithoutIt) {
  Chat with({}, {.prompt_chunk = 50, .snapshot_every = 64});
  Chat without({.memory_bytes = 0}, {.prompt_chunk = 50});
  for (const std::size_t size : {300U, 300U, 130U, 500U, 129U, 65U, 64U, 63U}) {
    const std::string prompt = long_text(size);
    const Heard::Choice one = with.say(prompt, size);
    const Heard::Choice other = without.say(prompt, size);
    EXPECT_EQ(one.text, other.text) << size;
    EXPECT_EQ(one.finish.usage.prompt_tokens, other.finish.usage.prompt_tokens);
    EXPECT_EQ(other.finish.usage.cached_tokens, 0U);
  }
  EXPECT_GT(with.cache.statistics().hits, 5U);
}

TEST(EngineCache, PromptsLeaveStatesOnTheWayAndAtTheirEnd) {
  Chat chat({}, {.snapshot_every = 100});
  const std::string prompt = long_text(350);
  chat.say(prompt, 1, {}, 1);
  EXPECT_EQ(chat.read, 351U);
  // The same once more: only its last token.
  EXPECT_EQ(chat.say(prompt, 1, {}, 1).finish.usage.cached_tokens, 350U);
  EXPECT_EQ(chat.read, 1U);
  // One that parts from it after 250 bytes: from token 200 on.
  const Heard::Choice other = chat.say(prompt.substr(0, 250) + "XYZ", 1, {}, 1);
  EXPECT_EQ(other.finish.usage.cached_tokens, 200U);
  EXPECT_EQ(other.finish.usage.prompt_tokens, 254U);
  EXPECT_EQ(chat.read, 54U);
}

TEST(EngineCache, WhatAStopStringCutIsNotInTheState) {
  Chat chat({});
  int stopped = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const std::string prompt = "ask " + std::to_string(seed) + " ";
    const Heard::Choice reply = chat.say(prompt, seed, {"\n\n", "\n "}, 30);
    if (reply.finish.reason != FinishReason::StopString) continue;
    if (reply.text.find("\ufffd") != std::string::npos) continue;
    ++stopped;
    const std::string second = prompt + reply.text + "!next";
    const Heard::Choice with = chat.say(second, seed);
    EXPECT_GE(with.finish.usage.cached_tokens + 6, second.size() - 5) << seed;
    // By tokens alone, nothing cached: the same text where the encoding is the same.
    Chat fresh({.memory_bytes = 0});
    if (with.finish.usage.prompt_tokens == chat.model.tokenizer->encode(second).size() + 1) {
      EXPECT_EQ(with.text, fresh.say(second, seed).text) << seed;
    }
  }
  EXPECT_GT(stopped, 10);
}

TEST(EngineCache, AnotherProcessGoesOnFromDisk) {
  const TemporaryFolder folder;
  const CacheOptions options = {.folder = folder.path("cache")};
  std::string first;
  {
    Chat chat(options);
    first = take_turn(chat, 2000);
    chat.cache.flush();
  }
  Chat chat(options);
  const Heard::Choice next = chat.say(first + "\n\nU: more\n\nA:");
  EXPECT_GE(next.finish.usage.cached_tokens, 2000U);
  EXPECT_EQ(chat.cache.statistics().disk_hits, 1U);
}

TEST(EngineCache, AStateOfUnknownOriginNeverGetsIn) {
  Chat chat({});
  Request tuned;  // as if it were state-tuned: its tokens do not tell what made it
  auto state = std::make_shared<State>(chat.model.config());
  state->values()[0] = 77.0F;
  tuned.start = std::make_shared<const SavedSequence>(SavedSequence{state, {}, ""});
  tuned.prompt = long_text(600);
  const Heard::Choice own = run_alone(*chat.engine, std::move(tuned));
  EXPECT_EQ(chat.cache.statistics().memory_states, 0U);
  EXPECT_EQ(chat.cache.statistics().lookups, 0U);
  const Heard::Choice plain = chat.say(long_text(600));
  EXPECT_EQ(plain.finish.usage.cached_tokens, 0U);
  Request unkept;
  unkept.prompt = long_text(600);
  unkept.use_cache = false;
  EXPECT_EQ(run_alone(*chat.engine, std::move(unkept)).finish.usage.cached_tokens, 0U);
}

TEST(EngineCache, ManyAtOnceAreFoundAndAnswered) {
  Chat chat({}, {}, 4);
  const std::string common = long_text(600);
  std::vector<std::shared_ptr<Heard>> heard;
  std::vector<Ticket> tickets;
  for (int i = 0; i < 60; ++i) {
    Request request;
    request.prompt = common + std::to_string(i % 5);
    request.max_tokens = 5;
    request.choices = i % 7 == 0 ? 2 : 1;
    heard.push_back(std::make_shared<Heard>());
    tickets.push_back(chat.engine->submit(std::move(request), Heard::sink(heard.back())));
  }
  for (const Ticket& ticket : tickets) ticket.wait();
  for (std::size_t i = 5; i < heard.size(); ++i) {
    EXPECT_EQ(heard[i]->choice().text, heard[i - 5]->choice().text);
  }
  EXPECT_GT(chat.cache.statistics().hits, 40U);
}

TEST(EngineCache, TheEngineEndsWhileOthersAreLookedFor) {
  const Model model = chatting_model();
  StateCache cache(model);
  for (int round = 0; round < 100; ++round) {
    std::vector<Ticket> tickets;
    {
      Engine engine(model,
                    std::make_unique<SlotBackend>(kChatVocabulary, 4, babbling(kChatVocabulary)),
                    {.sampling_threads = 1}, &cache);
      for (int i = 0; i < 6; ++i) {
        tickets.push_back(engine.submit({.prompt = long_text(40)}, [](auto&) { return true; }));
      }
      // At any moment of their way.
      std::this_thread::sleep_for(std::chrono::microseconds(2 * round));
    }
    for (const Ticket& ticket : tickets) ASSERT_TRUE(ticket.wait_for(std::chrono::seconds(0)));
  }
}

}  // namespace
}  // namespace gander
