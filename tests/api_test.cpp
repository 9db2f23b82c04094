// The public interface on the built-in model, through nothing but its header: the engine has
// classes of the same names.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <gander/gander.hpp>
#include <optional>
#include <utility>

namespace {

using gander::Session;
using gander::Token;

const gander::Model& builtin() {
  static const gander::Model kModel = gander::Model::builtin();
  return kModel;
}

std::string greedy_continuation(Session& session, std::uint32_t tokens) {
  session.set_sampling({.temperature = 0.0F});
  return session.generate({.max_tokens = tokens}).text;
}

TEST(Api, OpensTheBuiltinModel) {
  EXPECT_EQ(builtin().vocabulary_size(), 4096U);
  EXPECT_EQ(builtin().layers(), 6U);
  EXPECT_EQ(builtin().width(), 512U);
  ASSERT_TRUE(builtin().has_vocabulary());
  const std::vector<Token> tokens = builtin().tokenize("Hello, world!");
  EXPECT_EQ(tokens, (std::vector<Token>{2025, 45, 2771, 34}));
  EXPECT_EQ(builtin().detokenize(tokens), "Hello, world!");
}

TEST(Api, GeneratesAndStreams) {
  Session session(builtin());
  session.append("Once upon a time, there was a little");
  session.set_sampling({.temperature = 0.0F});
  std::string streamed;
  const gander::Generated result =
      session.generate({.max_tokens = 20, .stops = {"in the"}}, [&](std::string_view piece) {
        streamed += piece;
        return true;
      });
  EXPECT_EQ(result.ending, gander::Ending::StopString);
  EXPECT_EQ(result.text, " girl named Lily. She loved to play outside ");
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.prompt_tokens, 10U);
  EXPECT_EQ(session.tokens().size(), 10U + result.tokens - 2) << "less the stop string's two";
}

TEST(Api, EvaluatesTokens) {
  Session session(builtin());
  std::vector<Token> tokens = builtin().tokenize("Once upon a time, there was a little");
  tokens.insert(tokens.begin(), 0);
  const std::vector<float> logits = session.evaluate(tokens);
  ASSERT_EQ(logits.size(), 4096U);
  EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), 1614);  // " girl"
  EXPECT_EQ(greedy_continuation(session, 3), " girl named Lily");
}

TEST(Api, SnapshotsAndFilesGoOnWhereTheyWere) {
  const std::string file = testing::TempDir() + "gander_api_test.state";
  Session session(builtin());
  session.append("Once upon a time");
  greedy_continuation(session, 10);
  const gander::Snapshot snapshot = session.snapshot();
  session.save(file);
  const std::vector<Token> tokens = session.tokens();
  const std::string rest = greedy_continuation(session, 20);

  session.restore(snapshot);
  EXPECT_EQ(session.tokens(), tokens);
  EXPECT_EQ(greedy_continuation(session, 20), rest);
  Session other(builtin(), "auto", 1);
  other.load(file);
  EXPECT_EQ(greedy_continuation(other, 20), rest);
  std::filesystem::remove(file);
  other.reset();
  EXPECT_TRUE(other.tokens().empty());
}

TEST(Api, TheSeedDecides) {
  const auto text = [](std::uint64_t seed) {
    Session session(builtin());
    session.set_sampling({.temperature = 1.0F, .top_p = 0.9F, .seed = seed});
    session.append("Once upon a time");
    return session.generate({.max_tokens = 30}).text;
  };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
}

TEST(ApiEngine, SessionsOfOneEngineAreEachTheirOwn) {
  const std::string file = testing::TempDir() + "gander_api_engine.state";
  std::optional<gander::Engine> engine(std::in_place, builtin(),
                                       gander::EngineOptions{.backend = "cpu", .slots = 3});
  const gander::Sampling greedy = {.temperature = 0.0F};
  gander::EngineSession one = engine->session();
  gander::EngineSession other = engine->session();
  engine.reset();  // its sessions keep it
  one.append("Once upon a time, there was a little");
  std::string streamed;
  const gander::Generated result =
      one.generate(greedy, {.max_tokens = 20, .stops = {"in the"}}, [&](std::string_view piece) {
        streamed += piece;
        return true;
      });
  EXPECT_EQ(result.ending, gander::Ending::StopString);
  EXPECT_EQ(result.text, " girl named Lily. She loved to play outside ");
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(result.prompt_tokens, 10U);
  EXPECT_EQ(one.tokens_read(), 10U + result.tokens - 2);
  gander::EngineSession fork = one.fork();
  one.save(file);
  other.load(file);
  std::filesystem::remove(file);
  const std::string rest = one.generate(greedy, {.max_tokens = 8}).text;
  EXPECT_EQ(fork.generate(greedy, {.max_tokens = 8}).text, rest);
  EXPECT_EQ(other.generate(greedy, {.max_tokens = 8}).text, rest);
  other.reset();
  EXPECT_EQ(other.tokens_read(), 0U);
}

TEST(ApiEngine, EndsInEveryWay) {
  const gander::Engine engine(builtin(), {.backend = "cpu", .slots = 1, .max_waiting = 0});
  gander::EngineSession session = engine.session();
  gander::EngineSession other = engine.session();
  const gander::Limits endless = {.max_tokens = 1000000, .stop_at_end_of_text = false};
  session.append("One day");
  other.append("One day");
  const auto refusing = [&](std::string_view) {
    EXPECT_THROW(other.generate(), gander::Refused);
    session.cancel();
    return false;
  };
  bool is_first = true;
  const gander::Generated cancelled = session.generate({}, endless, [&](std::string_view piece) {
    return std::exchange(is_first, false) ? refusing(piece) : true;
  });
  EXPECT_EQ(cancelled.ending, gander::Ending::Cancelled);
  EXPECT_EQ(session.generate({}, endless, nullptr, 0.02).ending, gander::Ending::Timeout);
  EXPECT_THROW(session.generate({}, endless, [](std::string_view) -> bool { throw 3; }), int);
  EXPECT_THROW(session.generate({.temperature = -1.0F}), gander::Error);
  EXPECT_THROW(session.load("/nonexistent.state"), gander::Error);
  EXPECT_THROW(gander::Engine(builtin(), {.backend = "abacus"}), gander::Error);
}

TEST(Api, EveryFailureIsAnError) {
  using gander::Error;
  EXPECT_THROW(gander::Model("/nonexistent.gguf"), Error);
  EXPECT_THROW(Session(builtin(), "abacus"), Error);
  Session session(builtin());
  EXPECT_THROW(session.generate(), Error);
  EXPECT_THROW(session.set_sampling({.temperature = -1.0F}), Error);
  EXPECT_THROW(session.evaluate(std::vector<Token>{4096}), Error);
  EXPECT_THROW(session.restore({}), Error);
  EXPECT_THROW(session.load("/nonexistent.state"), Error);
  EXPECT_THROW(session.save("/nonexistent/s.state"), Error);
}

}  // namespace
