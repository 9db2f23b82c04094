// What an engine makes of a request, one at a time: the text, its end, and where its state is kept.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
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

constexpr std::uint32_t kTextVocabulary = 260;

Model babbling_model() {
  return fake_model(std::make_shared<const Tokenizer>(byte_tokens({"ab", "\n\n", "a b"})),
                    kTextVocabulary);
}

std::unique_ptr<SlotBackend> babbling_backend(std::uint32_t slots) {
  return std::make_unique<SlotBackend>(kTextVocabulary, slots, babbling(kTextVocabulary));
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
    Sampler sampler(request.sampling, kTextVocabulary, model.tokenizer.get());
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

TEST(EngineText, ChoicesShareThePrompt) {
  const Model model = babbling_model();
  auto owned = babbling_backend(2);
  const SlotBackend& backend = *owned;
  Engine engine(model, std::move(owned));
  Request request;
  request.prompt = std::string(100, 'x');
  request.choices = 5;
  request.max_tokens = 20;
  request.stop_at_end_of_text = false;
  request.sampling.seed = 3;
  const auto heard = std::make_shared<Heard>();
  engine.submit(std::move(request), Heard::sink(heard)).wait();
  ASSERT_EQ(heard->choices(), 5U);
  // Token 0 and the prompt once; its last token for each choice; all but the last chosen.
  EXPECT_EQ(backend.tokens(), 100U + 5U + 5 * 19U);
  Request alone;
  alone.prompt = std::string(100, 'x');
  alone.max_tokens = 20;
  alone.stop_at_end_of_text = false;
  alone.sampling.seed = 3;
  EXPECT_EQ(heard->choice(0).text, run_alone(engine, std::move(alone)).text);
  for (std::uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(heard->choice(i).finishes, 1);
    EXPECT_EQ(heard->choice(i).finish.usage.prompt_tokens, 101U);
    for (std::uint32_t j = 0; j < i; ++j) EXPECT_NE(heard->choice(i).text, heard->choice(j).text);
  }
}

TEST(EngineText, ChoicesOfAPromptOfOneToken) {
  Engine engine(babbling_model(), babbling_backend(2));
  Request request;
  request.tokens = {0};
  request.choices = 3;
  request.max_tokens = 5;
  const auto heard = std::make_shared<Heard>();
  engine.submit(std::move(request), Heard::sink(heard)).wait();
  EXPECT_EQ(heard->choices(), 3U);
  EXPECT_EQ(heard->choice(2).finish.usage.prompt_tokens, 1U);
}

// Only the letters b and d, and after four of them the end.
class TwoLetters final : public TokenMask {
 public:
  std::span<const std::uint64_t> allowed() override {
    words_ = {};
    if (count_ == 4) {
      words_[0] = 1;
    } else {
      for (const TokenId token : {'b' + 1U, 'd' + 1U}) {
        words_[token / 64] |= std::uint64_t{1} << (token % 64);
      }
    }
    return words_;
  }
  void accept(TokenId) override { ++count_; }
  std::unique_ptr<TokenMask> clone() const override { return std::make_unique<TwoLetters>(*this); }

 private:
  int count_ = 0;
  std::array<std::uint64_t, 5> words_ = {};
};

TEST(EngineText, AMaskDecidesWhatMayFollow) {
  Engine engine(babbling_model(), babbling_backend(2));
  for (const float temperature : {0.0F, 1.0F, 5.0F}) {
    Request request;
    request.prompt = "x";
    request.sampling.temperature = temperature;
    // Not even the strongest bias gets past it.
    request.sampling.logit_bias = {{'z' + 1U, std::numeric_limits<float>::infinity()}};
    request.mask = std::make_unique<TwoLetters>();
    request.stop_at_end_of_text = false;
    request.choices = 3;
    const auto heard = std::make_shared<Heard>();
    engine.submit(std::move(request), Heard::sink(heard)).wait();
    for (std::uint32_t i = 0; i < 3; ++i) {
      EXPECT_THAT(heard->choice(i).text, testing::MatchesRegex("[bd][bd][bd][bd]"));
      EXPECT_EQ(heard->choice(i).finish.reason, FinishReason::EndOfText);
    }
  }
}

class BadMask final : public TokenMask {
 public:
  explicit BadMask(bool throws) : throws_(throws) {}
  std::span<const std::uint64_t> allowed() override {
    if (throws_) fail("this grammar is broken");
    return {};
  }
  void accept(TokenId) override {}
  std::unique_ptr<TokenMask> clone() const override { return std::make_unique<BadMask>(*this); }

 private:
  bool throws_;
};

TEST(EngineText, ABrokenMaskEndsItsRequestAlone) {
  Engine engine(babbling_model(), babbling_backend(4));
  std::vector<std::shared_ptr<Heard>> heard;
  std::vector<Ticket> tickets;
  for (int i = 0; i < 4; ++i) {
    Request request;
    request.prompt = "x";
    request.max_tokens = 30;
    request.stop_at_end_of_text = false;
    if (i == 1) request.mask = std::make_unique<BadMask>(true);
    if (i == 2) request.mask = std::make_unique<BadMask>(false);
    heard.push_back(std::make_shared<Heard>());
    tickets.push_back(engine.submit(std::move(request), Heard::sink(heard.back())));
  }
  for (const Ticket& ticket : tickets) ticket.wait();
  EXPECT_EQ(heard[1]->choice().finish.reason, FinishReason::Error);
  EXPECT_EQ(heard[1]->choice().finish.error, "this grammar is broken");
  EXPECT_THAT(heard[2]->choice().finish.error, HasSubstr("no token is allowed"));
  EXPECT_EQ(heard[0]->choice().finish.usage.generated_tokens, 30U);
  EXPECT_EQ(heard[3]->choice().text, heard[0]->choice().text);
}

TEST(EngineText, LogprobsAreTheModels) {
  Engine engine(babbling_model(), babbling_backend(2));
  Request request;
  request.prompt = "x";
  request.max_tokens = 30;
  request.stop_at_end_of_text = false;
  request.stops = {"c:"};
  request.sampling = {.temperature = 2.0F, .presence_penalty = 3.0F, .seed = 11};
  request.top_logprobs = 3;
  const Heard::Choice choice = run_alone(engine, std::move(request));

  // Read again by a session.
  const Model model = babbling_model();
  Session session(model, babbling_backend(1));
  std::vector<TokenId> ids = {0, 'x' + 1};
  std::string text;
  for (const TokenChoice& said : choice.tokens) {
    const std::span<const float> logits = session.evaluate(ids);
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(double{logit});
    EXPECT_NEAR(said.logprob, logits[said.token] - std::log(sum), 1e-4);
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
      return std::pair(-logits[a], a) < std::pair(-logits[b], b);
    });
    ASSERT_EQ(said.top.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(said.top[i].first, order[i]);
      EXPECT_NEAR(said.top[i].second, logits[order[i]] - std::log(sum), 1e-4);
    }
    ids = {said.token};
    text += model.tokenizer->bytes(said.token);
  }
  EXPECT_TRUE(text.starts_with(choice.text) || choice.text.find("\ufffd") != std::string::npos);
  EXPECT_GE(choice.tokens.size(), 1U);
}

TEST(EngineText, TokensThatAStopStringTookAreNotTold) {
  const Model model = babbling_model();
  Engine engine(model, babbling_backend(1));
  int stopped = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Request request;
    request.prompt = "x";
    request.max_tokens = 40;
    request.stops = {"cd", "b:", ":\n", "\nUa"};
    request.sampling.seed = seed;
    request.top_logprobs = 0;
    const Heard::Choice choice = run_alone(engine, std::move(request));
    if (choice.finish.reason != FinishReason::StopString) continue;
    if (choice.text.find("\ufffd") != std::string::npos || choice.tokens.empty()) continue;
    ++stopped;
    std::vector<TokenId> told;
    for (const TokenChoice& token : choice.tokens) told.push_back(token.token);
    EXPECT_TRUE(model.tokenizer->decode(told).starts_with(choice.text)) << seed;
    told.pop_back();
    EXPECT_LT(model.tokenizer->decode(told).size(), choice.text.size()) << "all begin in the text";
  }
  EXPECT_GT(stopped, 10);
}

TEST(EngineText, WithNothingToGenerateThePromptIsReadAsFarAsItIsCertain) {
  const Model model = babbling_model();
  Engine engine(model, babbling_backend(2));
  Request read;
  read.prompt = "bcda";  // a could become ab
  read.max_tokens = 0;
  read.keep_end = true;
  const Heard::Choice first = run_alone(engine, std::move(read));
  EXPECT_EQ(first.finish.reason, FinishReason::Length);
  EXPECT_EQ(first.finish.end->tokens, (std::vector<TokenId>{0, 'b' + 1, 'c' + 1, 'd' + 1}));
  EXPECT_EQ(first.finish.end->pending, "a");

  Request whole;
  whole.prompt = "bcdab";
  const std::string expected = run_alone(engine, std::move(whole)).text;
  Request rest;
  rest.start = first.finish.end;
  rest.prompt = "b";
  const Heard::Choice second = run_alone(engine, std::move(rest));
  EXPECT_EQ(second.text, expected);
  EXPECT_EQ(second.finish.usage.prompt_tokens, 1U) << "the token ab";

  Request certain;  // nothing begins with bcx; its last token is read when it is known what follows
  certain.prompt = "bcx";
  certain.max_tokens = 0;
  certain.keep_end = true;
  EXPECT_EQ(run_alone(engine, std::move(certain)).finish.end->pending, "x");

  Request nothing;
  nothing.prompt = "a";
  nothing.max_tokens = 0;
  nothing.keep_end = true;
  const Heard::Choice third = run_alone(engine, std::move(nothing));
  EXPECT_TRUE(third.finish.end->tokens.empty());
  EXPECT_EQ(third.finish.end->pending, "a");
}

TEST(EngineText, ARequestThatCannotBeServedIsAnError) {
  Engine engine(babbling_model(), babbling_backend(1), {.max_choices = 4, .max_top_logprobs = 2});
  const auto refuse = [&](const char* message, const std::function<void(Request&)>& change) {
    Request request;
    request.prompt = "x";
    change(request);
    EXPECT_THAT([&] { engine.submit(std::move(request), [](const Event&) { return true; }); },
                ThrowsMessage<Error>(HasSubstr(message)));
  };
  refuse("the prompt is empty", [](Request& r) { r.prompt.clear(); });
  refuse("not both", [](Request& r) { r.tokens = {1}; });
  refuse("there is no token 260", [](Request& r) { r.prompt.clear(), r.tokens = {260}; });
  refuse("from 1 to 4", [](Request& r) { r.choices = 5; });
  refuse("from 1 to 4", [](Request& r) { r.choices = 0; });
  refuse("their ends", [](Request& r) { r.choices = 2, r.keep_end = true; });
  refuse("something must be generated", [](Request& r) { r.choices = 2, r.max_tokens = 0; });
  refuse("at most 2", [](Request& r) { r.top_logprobs = 3; });
  refuse("a stop string is empty", [](Request& r) { r.stops = {""}; });
  refuse("temperature is -1", [](Request& r) { r.sampling.temperature = -1; });
  refuse("another shape", [](Request& r) {
    Config other = fake_config(kTextVocabulary);
    other.layers = 2;
    r.start = std::make_shared<const SavedSequence>(
        SavedSequence{std::make_shared<const State>(other), {0}, ""});
  });
  refuse("needs its state", [](Request& r) {
    r.start = std::make_shared<const SavedSequence>(SavedSequence{nullptr, {0}, ""});
  });
  EXPECT_THAT([&] { engine.submit({.prompt = "x"}, nullptr); },
              ThrowsMessage<Error>(HasSubstr("a sink")));
  EXPECT_THAT([] { Engine(fake_model(nullptr, kTextVocabulary), babbling_backend(1)); },
              ThrowsMessage<Error>(HasSubstr("--vocab")));
}

TEST(EngineStates, AreForkedExportedAndImported) {
  const Model model = babbling_model();
  Engine engine(model, babbling_backend(1));
  NamedStates& states = engine.states();
  Request request;
  request.prompt = "abc";
  request.keep_end = true;
  request.max_tokens = 5;
  states.put("mine", run_alone(engine, std::move(request)).finish.end);
  const auto go_on = [&](const std::string& name) {
    Request more;
    more.start = states.find(name);
    more.prompt = " and";
    more.max_tokens = 10;
    return run_alone(engine, std::move(more)).text;
  };
  const std::string expected = go_on("mine");
  const std::uint64_t bytes = states.bytes();
  states.fork("mine", "other");
  EXPECT_EQ(states.bytes(), bytes + 5 + 128) << "a fork shares all but its name";
  states.import_bytes("third", states.export_bytes("other"));
  EXPECT_TRUE(states.erase("mine"));
  EXPECT_FALSE(states.erase("mine"));
  EXPECT_EQ(go_on("other"), expected);
  EXPECT_EQ(go_on("third"), expected);
  ASSERT_EQ(states.list().size(), 2U);
  EXPECT_EQ(states.list()[1].name, "third");
  EXPECT_EQ(states.list()[1].tokens, states.find("third")->tokens.size());
  EXPECT_EQ(states.bytes(), 2 * (bytes + 1));  // the names have five letters
}

TEST(EngineStates, Errors) {
  const Model model = babbling_model();
  const auto sequence = [&] {
    return std::make_shared<const SavedSequence>(
        SavedSequence{std::make_shared<const State>(model.config()), {0}, ""});
  };
  const std::uint64_t name = 1 + 128;
  const std::uint64_t size = State(model.config()).values().size_bytes() + sizeof(TokenId) + name;
  NamedStates states(model, 2 * size + name);
  states.put("a", sequence());
  states.put("b", sequence());
  states.put("b", sequence());
  EXPECT_THAT([&] { states.put("c", sequence()); },
              ThrowsMessage<StatesFull>(HasSubstr("no room")));
  EXPECT_THAT([&] { states.require_room("c"); }, ThrowsMessage<StatesFull>(HasSubstr("no room")));
  EXPECT_EQ(states.list().size(), 2U);
  states.fork("b", "c");
  EXPECT_THAT([&] { states.fork("b", "d"); }, ThrowsMessage<StatesFull>(HasSubstr("delete some")));
  EXPECT_TRUE(states.erase("a"));
  states.require_room("d");
  states.put("a", sequence());
  EXPECT_THAT([&] { states.put("", sequence()); }, ThrowsMessage<Error>(HasSubstr("name")));
  EXPECT_THAT([&] { states.put(std::string(257, 'x'), sequence()); },
              ThrowsMessage<Error>(HasSubstr("name")));
  EXPECT_THAT([&] { states.fork("x", "y"); }, ThrowsMessage<Error>(HasSubstr("called x")));
  EXPECT_THAT([&] { states.export_bytes("x"); }, ThrowsMessage<Error>(HasSubstr("called x")));
  std::string bytes = states.export_bytes("a");
  bytes[60] ^= 1;
  EXPECT_THAT([&] { states.import_bytes("c", bytes); }, ThrowsMessage<Error>(HasSubstr("damaged")));
  Model other = model;
  other.fingerprint = 18;
  EXPECT_THAT([&] { NamedStates(other, 9 * size).import_bytes("c", states.export_bytes("a")); },
              ThrowsMessage<Error>(HasSubstr("another model")));
}

}  // namespace
}  // namespace gander
