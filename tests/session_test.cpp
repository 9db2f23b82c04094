#include "engine/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "base/error.h"
#include "tests/support/fake_backend.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Ids = std::vector<TokenId>;

/// A session on a fake backend that says what it is told to.
class Scripted {
 public:
  explicit Scripted(const std::vector<std::string>& more_tokens, std::size_t prompt = 0,
                    Ids script = {})
      : tokenizer(std::make_shared<const Tokenizer>(byte_tokenizer(more_tokens))),
        sampler({.temperature = 0.0F}, size(), tokenizer.get()),
        session(fake_model(tokenizer, size()),
                std::make_unique<FakeBackend>(size(), scripted(prompt, std::move(script)))) {}

  std::uint32_t size() const { return static_cast<std::uint32_t>(tokenizer->size()); }
  FakeBackend& backend() { return dynamic_cast<FakeBackend&>(session.backend()); }
  GenerateResult generate(const GenerateOptions& options = {}) {
    pieces.clear();
    return session.generate(sampler, options, [this](std::string_view piece) {
      if (!piece.empty()) pieces.emplace_back(piece);
      return cancel_after == 0 || pieces.size() < cancel_after;
    });
  }
  std::string read_text() { return tokenizer->decode(backend().history()); }

  std::shared_ptr<const Tokenizer> tokenizer;
  Sampler sampler;
  Session session;
  std::vector<std::string> pieces;
  std::size_t cancel_after = 0;
};

TokenId byte(char c) {
  return static_cast<TokenId>(static_cast<unsigned char>(c)) + 1;
}

TEST(Session, ReadsThePromptAfterTokenZeroAndShowsWhatFollows) {
  Scripted s({"ab", " c"}, 3, {257, 258, byte('!'), 0, 257});
  s.session.append("a");
  s.session.append("bx");
  const GenerateResult result = s.generate();
  EXPECT_EQ(result.reason, StopReason::EndOfText);
  EXPECT_EQ(result.text, "ab c!");
  EXPECT_THAT(s.pieces, ElementsAre("ab", " c", "!"));
  EXPECT_EQ(result.prompt_tokens, 3U);
  EXPECT_EQ(result.tokens, 4U);
  EXPECT_EQ(s.backend().history(), (Ids{0, 257, byte('x'), 257, 258, byte('!')}));
  EXPECT_EQ(s.session.tokens(), s.backend().history());
  EXPECT_EQ(s.session.pending(), "");
}

TEST(Session, TheLastTokenWaitsAndMergesWithWhatIsAppended) {
  Scripted s({"ab", "bcd"}, 2, {byte('a'), byte('b'), byte('c')});
  s.session.append("x");
  EXPECT_EQ(s.generate({.max_tokens = 2}).reason, StopReason::Length);
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('x'), byte('a')}));
  EXPECT_EQ(s.session.pending(), "b");
  s.session.append("cd");
  s.generate({.max_tokens = 1});
  EXPECT_EQ(s.backend().history(), (Ids{0, byte('x'), byte('a'), 258}));
}

TEST(Session, GeneratingInTwoPartsGivesTheSameText) {
  Scripted s({"ab"}, 2, {257, byte('c'), 257, byte('d')});
  s.session.append("x");
  std::string text = s.generate({.max_tokens = 1}).text;
  text += s.generate({.max_tokens = 2}).text;
  text += s.generate().text;
  EXPECT_EQ(text, "abcabd");
}

TEST(Session, AnUnusedIdAtTheEndIsReadAtOnce) {
  Scripted s({"", "ab"}, 2, {258, 257});
  s.session.append("x");
  EXPECT_EQ(s.generate({.max_tokens = 2}).text, "ab");
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('x'), 258, 257}));
}

TEST(Session, TokenZeroIsAnOrdinaryTokenWhenAsked) {
  Scripted s({"ab"}, 2, {257, 0, 257});
  s.session.append("x");
  const GenerateResult result = s.generate({.max_tokens = 4, .stop_at_end_of_text = false});
  EXPECT_EQ(result.reason, StopReason::Length);
  EXPECT_EQ(result.text, "abab");
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('x'), 257, 0, 257, 0}));
}

TEST(Session, AStopStringLeavesNoTrace) {
  Scripted s({".\n\n", "User", ": b"}, 2, {byte('H'), 257, 258, 259, byte('!')});
  s.session.append("x");
  const GenerateResult result = s.generate({.stops = {"\n\nUser:"}});
  EXPECT_EQ(result.reason, StopReason::StopString);
  EXPECT_EQ(result.text, "H.");
  EXPECT_EQ(s.backend().history(), (Ids{0, byte('x'), byte('H')}));
  EXPECT_EQ(s.session.tokens(), s.backend().history());
  EXPECT_EQ(s.session.pending(), ".") << "the visible part of the token that held the stop";
  s.session.append("\n\n!");
  s.generate({.max_tokens = 1});
  EXPECT_EQ(s.backend().history(), (Ids{0, byte('x'), byte('H'), 257, byte('!')}));
}

TEST(Session, AFalseBeginningOfAStopIsShownInTheEnd) {
  Scripted s({"\n\n", "Us"}, 2, {257, 258, byte('e'), 257, 258});
  s.session.append("x");
  EXPECT_EQ(s.generate({.stops = {"\n\nUser:"}}).text, "\n\nUse\n\nUs");
  EXPECT_THAT(s.pieces, ElementsAre("\n\nUse", "\n\nUs"));
}

// Random tokens, stops and limits: whatever happens, what was read and what waits is what was
// shown.
TEST(Session, TheSequenceIsAlwaysTheTextThatWasShown) {
  const std::vector<std::string> tokens = {"aa", "ab", "ba", "aba", "bbab", "cc", "abac"};
  std::mt19937 random(8);
  const auto random_text = [&](std::size_t size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  std::map<StopReason, int> reasons;
  for (int round = 0; round < 3000; ++round) {
    Ids script;
    for (int i = 0; i < 12; ++i) {
      const auto choice = static_cast<TokenId>(random() % 9);
      script.push_back(choice < 7 ? 257 + choice : byte(choice == 7 ? 'a' : 'b'));
    }
    const std::string prompt = random_text(1 + random() % 5);
    const Tokenizer tokenizer = byte_tokenizer(tokens);
    Scripted s(tokens, 1 + tokenizer.encode(prompt).size(), script);
    GenerateOptions options;
    options.max_tokens = 1 + static_cast<std::uint32_t>(random() % 15);
    for (std::size_t i = random() % 3; i > 0; --i) {
      options.stops.push_back(random_text(2 + random() % 5));
    }
    s.cancel_after = random() % 3 == 0 ? 1 + random() % 8 : 0;
    s.session.append(prompt);
    const GenerateResult result = s.generate(options);
    ++reasons[result.reason];

    const std::string whole = tokenizer.decode(script);
    ASSERT_EQ(result.text, whole.substr(0, result.text.size()));
    std::string shown;
    for (const std::string& piece : s.pieces) shown += piece;
    ASSERT_EQ(result.text, shown);
    for (const std::string& stop : options.stops) {
      ASSERT_EQ(result.text.find(stop), std::string::npos);
    }
    if (result.reason == StopReason::StopString) {
      const auto follows = [&](const std::string& stop) {
        return std::string_view(whole).substr(result.text.size()).starts_with(stop);
      };
      ASSERT_TRUE(std::ranges::any_of(options.stops, follows));
    }
    ASSERT_EQ(s.read_text() + s.session.pending(), prompt + result.text);
    ASSERT_EQ(s.session.tokens(), s.backend().history());
    // Only whole tokens of the script are read, and less than one waits.
    const Ids& history = s.backend().history();
    const std::size_t read = history.size() - 1 - tokenizer.encode(prompt).size();
    ASSERT_TRUE(std::equal(history.end() - static_cast<std::ptrdiff_t>(read), history.end(),
                           script.begin()));
    if (read < script.size()) {
      ASSERT_LE(s.session.pending().size(), tokenizer.bytes(script[read]).size());
    }
  }
  for (const StopReason reason :
       {StopReason::EndOfText, StopReason::StopString, StopReason::Length, StopReason::Cancelled}) {
    EXPECT_GT(reasons[reason], 100);
  }
}

TEST(Session, PiecesAreValidUtf8WhereverTokensCutIt) {
  Scripted s({"caf\xc3", "\xa9 \xf0\x9f", "\xe2\x98"}, 2,
             {257, 258, byte('\x98'), byte('\x80'), 259, byte('!')});
  s.session.append("x");
  EXPECT_EQ(s.generate().text, "caf\u00e9 \U0001f600\ufffd!");
  EXPECT_THAT(s.pieces, ElementsAre("caf", "\u00e9 ", "\U0001f600", "\ufffd!"));
  s.session.reset();
  s.session.append("x");
  EXPECT_EQ(s.generate({.max_tokens = 1}).text, "caf\ufffd");
  EXPECT_EQ(s.session.pending(), "caf\xc3") << "the sequence keeps the bytes themselves";
}

TEST(Session, CancellingTakesBackWhatWasNotShown) {
  Scripted s({"\n\n", "Us", "ok"}, 2, {259, 257, 258, 259});
  s.session.append("x");
  s.cancel_after = 1;
  EXPECT_EQ(s.generate({.stops = {"\n\nUser:"}}).reason, StopReason::Cancelled);
  EXPECT_EQ(s.read_text() + s.session.pending(), "xok");

  // While a stop string may be coming, the callback is asked with nothing to show.
  Scripted hidden({"\n\n", "Us", "ok"}, 2, {259, 257, 258, 259});
  hidden.session.append("x");
  int calls = 0;
  const GenerateResult result = hidden.session.generate(
      hidden.sampler, {.stops = {"\n\nUser:"}}, [&](std::string_view) { return ++calls < 3; });
  EXPECT_EQ(result.reason, StopReason::Cancelled);
  EXPECT_EQ(result.text, "ok");
  EXPECT_EQ(hidden.session.tokens(), (Ids{0, byte('x'), 259}));
  EXPECT_EQ(hidden.session.pending(), "");
}

TEST(Session, ALongPromptCanBeCancelledAndGoneOnWith) {
  const std::string prompt(1200, 'x');
  Scripted s({"ab"}, 1201, {257});
  s.session.append(prompt);
  int calls = 0;
  const GenerateResult result = s.session.generate(s.sampler, {}, [&](std::string_view piece) {
    EXPECT_EQ(piece, "");
    return ++calls < 2;
  });
  EXPECT_EQ(result.reason, StopReason::Cancelled);
  EXPECT_EQ(result.tokens, 0U);
  EXPECT_EQ(result.prompt_tokens, s.session.tokens().size());
  EXPECT_GT(s.session.pending().size(), 0U);
  EXPECT_EQ(s.read_text() + s.session.pending(), prompt);
  EXPECT_EQ(s.generate().text, "ab");
  EXPECT_EQ(s.read_text(), prompt + "ab");
}

TEST(Session, AdvanceReadsWhatNoLaterTextChanges) {
  Scripted s({"ab", "abc", "xyz"}, 5, {257, byte('q')});
  s.session.append("qqab");
  EXPECT_TRUE(s.session.advance());
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('q'), byte('q')}));
  EXPECT_EQ(s.session.pending(), "ab") << "it may become abc";
  EXPECT_TRUE(s.session.advance());
  EXPECT_EQ(s.session.pending(), "ab");
  s.session.append("czz");
  s.session.advance();
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('q'), byte('q'), 258, byte('z')}));
  EXPECT_EQ(s.session.pending(), "z") << "one token stays for generate() to begin with";
  s.generate({.max_tokens = 1});
  EXPECT_EQ(s.read_text(), "qqabczz");
}

TEST(Session, SnapshotsRestoreTheWholeSequence) {
  Scripted s({"ab"}, 2, {257, byte('c'), byte('d')});
  s.session.append("x");
  const std::string first = s.generate({.max_tokens = 2}).text;
  const Session::Snapshot snapshot = s.session.snapshot();
  const std::string rest = s.generate().text;
  s.session.restore(snapshot);
  EXPECT_EQ(s.session.tokens(), s.backend().history());
  EXPECT_EQ(s.session.pending(), "c");
  EXPECT_EQ(s.generate().text, rest);
  s.session.reset();
  EXPECT_TRUE(s.backend().history().empty());
  EXPECT_EQ(s.session.pending(), "");
  s.session.append("x");
  EXPECT_EQ(s.generate({.max_tokens = 2}).text, first);
  Session::Snapshot other = snapshot;
  other.state = State();
  EXPECT_THROW(s.session.restore(other), Error);
}

TEST(Session, EvaluateReadsIdsAsTheyAre) {
  Scripted s({"ab"}, 2, {257, byte('c')});
  const std::span<const float> logits = s.session.evaluate(Ids{5, 6});
  ASSERT_EQ(logits.size(), 258U);
  EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), 257);
  EXPECT_EQ(s.session.tokens(), (Ids{5, 6}));
  EXPECT_EQ(s.generate().text, "abc") << "generation goes on from these logits";
  EXPECT_THROW(s.generate(), Error);
  s.session.reset();
  s.session.append("x");
  s.session.evaluate(Ids{7});
  EXPECT_EQ(s.session.tokens(), (Ids{0, byte('x'), 7}));
  EXPECT_THAT(
      [&] {
        s.session.evaluate(Ids{1, 258});
      },
      ThrowsMessage<Error>(HasSubstr("no token 258: the model has 258")));
  EXPECT_THROW(s.session.evaluate({}), Error);
}

TEST(Session, Errors) {
  Scripted s({"ab"});
  EXPECT_THAT([&] { s.generate(); }, ThrowsMessage<Error>(HasSubstr("nothing to continue from")));
  s.session.append("x");
  EXPECT_THROW(s.generate({.max_tokens = 0}), Error);
  EXPECT_THROW(s.generate({.stops = {""}}), Error);
  EXPECT_TRUE(s.backend().history().empty()) << "an error comes before anything is read";
  s.generate();
  EXPECT_THROW(s.generate(), Error) << "the text came to its end";

  Session without(fake_model(nullptr, 10), std::make_unique<FakeBackend>(10, scripted(0, {})));
  EXPECT_THROW(without.append("x"), Error);
  EXPECT_THROW(without.generate(s.sampler, {}, nullptr), Error);
  EXPECT_EQ(without.evaluate(Ids{1, 2}).size(), 10U);
}

TEST(SessionFile, KeepsStatePendingBytesAndNote) {
  const TemporaryFolder folder;
  const std::string path = folder.path("s.state");
  Scripted s({"ab", "caf\xc3"}, 2, {257, 258, byte('\xa9'), byte('!')});
  s.session.append("x");
  s.generate({.max_tokens = 2});
  save_session(path, s.session, "a \"note\" \xff");
  const std::string rest = s.generate().text;
  EXPECT_EQ(rest, "\ufffd!");

  Scripted other({"ab", "caf\xc3"}, 2, {257, 258, byte('\xa9'), byte('!')});
  EXPECT_EQ(load_session(path, other.session), "a \"note\" \ufffd");
  EXPECT_EQ(other.session.pending(), "caf\xc3");
  EXPECT_EQ(other.session.tokens(), (Ids{0, byte('x'), 257}));
  EXPECT_EQ(other.backend().history(), other.session.tokens());
  EXPECT_EQ(other.generate().text, rest);
}

TEST(SessionFile, RefusesWhatDoesNotBelongAndChangesNothing) {
  const TemporaryFolder folder;
  Scripted s({"ab"}, 2, {257});
  s.session.append("x");
  s.generate();
  const Ids before = s.session.tokens();
  SavedState saved;
  saved.state = State(s.session.model().config());
  const auto expect_error = [&](const std::string& message) {
    const std::string path = folder.path("bad.state");
    write_state(path, saved);
    EXPECT_THAT([&] { load_session(path, s.session); }, ThrowsMessage<Error>(HasSubstr(message)));
    EXPECT_EQ(s.session.tokens(), before);
  };
  saved.fingerprint = 18;
  expect_error("saved with another model");
  saved.fingerprint = 17;
  saved.tokens = {0, 258};
  expect_error("token 258");
  saved.tokens = {0};
  for (const char* note :
       {"text", "{}", "[]", "{\"session\":1}", "{\"session\":1,\"pending\":\"0\"}",
        "{\"session\":1,\"pending\":\"0g\",\"note\":\"\"}",
        "{\"session\":1,\"pending\":\"00\",\"note\":3}",
        "{\"session\":2,\"pending\":\"00\",\"note\":\"\"}", "{\"session\":"}) {
    saved.note = note;
    expect_error("its note");
  }
  EXPECT_THROW(load_session(folder.path("absent"), s.session), Error);

  saved.note.clear();  // a bare state, as other programs write it
  saved.fingerprint = 0;
  write_state(folder.path("bare.state"), saved);
  EXPECT_EQ(load_session(folder.path("bare.state"), s.session), "");
  EXPECT_EQ(s.session.pending(), "");
}

}  // namespace
}  // namespace gander
