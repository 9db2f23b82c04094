#include "engine/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/fake_backend.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Chat, CleansText) {
  EXPECT_EQ(clean_text("  a\r\nb\n\n\nc\r\n\r\nd\re \n"), "a\nb\nc\nd\ne");
  EXPECT_EQ(clean_text(" \n\r\n\t"), "");
  EXPECT_EQ(clean_text("\u00e9 x"), "\u00e9 x");
}

TEST(Chat, FillsTheTemplate) {
  EXPECT_EQ(system_turn(" Be kind.\r\n\r\nAlways. "), "System: Be kind.\nAlways.\n\n");
  EXPECT_EQ(system_turn(" \n"), "");
  EXPECT_EQ(user_turn("Hi\n\nyou ", Thinking::None), "User: Hi\nyou\n\nAssistant:");
  EXPECT_EQ(user_turn("Hi", Thinking::Free), "User: Hi\n\nAssistant:");
  EXPECT_EQ(user_turn("Hi", Thinking::Short), "User: Hi (think a bit)\n\nAssistant:");
  EXPECT_EQ(user_turn("Hi", Thinking::Normal), "User: Hi (think)\n\nAssistant:");
  EXPECT_EQ(user_turn("Hi", Thinking::Long), "User: Hi (think a lot)\n\nAssistant:");
  EXPECT_EQ(thinking_prefix(Thinking::None), "");
  EXPECT_EQ(thinking_prefix(Thinking::Fake), " <think>\n</think");
  EXPECT_EQ(thinking_prefix(Thinking::Free), " <think");
  EXPECT_EQ(thinking_prefix(Thinking::Long), " <think");
}

TEST(Chat, SplitsReplies) {
  const auto expect = [](std::string_view text, const char* thinking, const char* answer) {
    const Reply reply = split_reply(text);
    EXPECT_EQ(reply.thinking, thinking) << text;
    EXPECT_EQ(reply.answer, answer) << text;
  };
  expect(" Hello. ", "", "Hello.");
  expect(" <think>So.\nYes.</think>\n\nHello. ", "So.\nYes.", "Hello.");
  expect(" <think>\n</think>Hello", "", "Hello");
  expect("<think>cut short", "cut short", "");
  expect("<think>a</think>", "a", "");
  expect("I <think>not</think>", "", "I <think>not</think>");
  expect("", "", "");
}

/// A model that says the next of its lines whenever it has read "Assistant:", and what it was given
/// of the line already, as far as it fits.
class Lines {
 public:
  explicit Lines(std::vector<std::string> lines)
      : lines_(std::move(lines)),
        tokenizer(std::make_shared<const Tokenizer>(
            byte_tokenizer({"User", "Assistant", "\n\n", " <", ".\n\n", "think"}))),
        sampler({.temperature = 0.0F}, size(), tokenizer.get()),
        session(fake_model(tokenizer, size()),
                std::make_unique<FakeBackend>(
                    size(), [this](std::span<const TokenId> history, std::span<float> logits) {
                      predict(history, logits);
                    })) {}

  std::uint32_t size() const { return static_cast<std::uint32_t>(tokenizer->size()); }

  /// All text of the sequence, read or waiting.
  std::string text() { return tokenizer->decode(session.tokens()) + session.pending(); }

 private:
  std::vector<std::string> lines_;

  void predict(std::span<const TokenId> history, std::span<float> logits) const {
    const std::string all = tokenizer->decode({history.begin(), history.end()});
    const std::string_view marker = "Assistant:";
    const std::size_t turn = all.rfind(marker);
    std::size_t turns = 0;
    for (std::size_t at = all.find(marker); at != std::string::npos;
         at = all.find(marker, at + 1)) {
      ++turns;
    }
    std::ranges::fill(logits, 0.0F);
    if (turns == 0) return;
    const std::string& line = lines_.at((turns - 1) % lines_.size());
    const std::string said = all.substr(turn + marker.size());
    const std::vector<TokenId> next = line.starts_with(said)
                                          ? tokenizer->encode(line.substr(said.size()))
                                          : std::vector<TokenId>();
    logits[next.empty() ? 0 : next.front()] = 50.0F;
  }

 public:
  std::shared_ptr<const Tokenizer> tokenizer;
  Sampler sampler;
  Session session;
};

TEST(Conversation, KeepsTheTemplateFromTurnToTurn) {
  Lines model({" Hello.", " I am well.\n\nUser: and now you", " Bye"});
  Conversation chat(model.session, "Be kind.\n\n");
  EXPECT_EQ(chat.say("Hi\r\n\r\nthere ", Thinking::None, model.sampler, {}, nullptr).text,
            " Hello.");
  const GenerateResult second =
      chat.say("How are you?", Thinking::None, model.sampler, {}, nullptr);
  EXPECT_EQ(second.text, " I am well.");
  EXPECT_EQ(second.reason, StopReason::StopString);
  EXPECT_EQ(chat.say("Bye", Thinking::None, model.sampler, {}, nullptr).reason,
            StopReason::EndOfText);
  EXPECT_EQ(model.text(),
            "System: Be kind.\n\nUser: Hi\nthere\n\nAssistant: Hello.\n\nUser: How are you?\n\n"
            "Assistant: I am well.\n\nUser: Bye\n\nAssistant: Bye");
  ASSERT_EQ(chat.turns().size(), 3U);
  EXPECT_EQ(chat.turns()[0].user, "Hi\nthere");
  EXPECT_EQ(chat.turns()[1].assistant, "I am well.");
}

TEST(Conversation, ReadsItsHistoryOnlyOnce) {
  Lines model({" Hello.", " Well."});
  Conversation chat(model.session);
  const GenerateResult first = chat.say("Hi", Thinking::None, model.sampler, {}, nullptr);
  EXPECT_EQ(first.prompt_tokens + first.tokens, model.session.tokens().size() + 1);
  const std::size_t before = model.session.tokens().size();
  const GenerateResult second = chat.say("And?", Thinking::None, model.sampler, {}, nullptr);
  // All that was sampled has been read, but for token 0.
  EXPECT_EQ(before + second.prompt_tokens + second.tokens, model.session.tokens().size() + 1);
}

TEST(Conversation, ParagraphsDoNotEndAReply) {
  Lines model({" One.\n\nUsers like two.\n\nUser: x"});
  Conversation chat(model.session);
  EXPECT_EQ(chat.say("Hi", Thinking::None, model.sampler, {}, nullptr).text,
            " One.\n\nUsers like two.");
}

TEST(Conversation, OldTurnsStandWithoutTheirThinking) {
  Lines model({" <think>hmm.\n\nyes</think>\n\nHello.\n\nUser:", " <think>\n</think>\nWell."});
  Conversation chat(model.session);
  std::string shown;
  const auto show = [&](std::string_view piece) {
    shown += piece;
    return true;
  };
  const GenerateResult first = chat.say("Hi", Thinking::Long, model.sampler, {}, show);
  EXPECT_EQ(first.text, " <think>hmm.\n\nyes</think>\n\nHello.");
  EXPECT_EQ(shown, first.text);
  EXPECT_EQ(chat.turns()[0].assistant, "Hello.");
  EXPECT_EQ(model.text(), "User: Hi (think a lot)\n\nAssistant: Hello.");
  EXPECT_EQ(chat.say("And?", Thinking::Fake, model.sampler, {}, nullptr).text,
            " <think>\n</think>\nWell.");
  EXPECT_EQ(model.text(),
            "User: Hi (think a lot)\n\nAssistant: Hello.\n\nUser: And?\n\nAssistant: Well.");
}

TEST(Conversation, RetryTakesTheReplyBack) {
  Lines model({" Hello.", " Well."});
  Conversation chat(model.session);
  EXPECT_THAT([&] { chat.retry(model.sampler, {}, nullptr); },
              ThrowsMessage<Error>(HasSubstr("no reply")));
  chat.say("Hi", Thinking::None, model.sampler, {}, nullptr);
  chat.say("And?", Thinking::None, model.sampler, {}, nullptr);
  const std::string text = model.text();
  const GenerateResult again = chat.retry(model.sampler, {.max_tokens = 3}, nullptr);
  EXPECT_EQ(again.text, " We");
  EXPECT_LE(again.prompt_tokens, 2U) << "the message is not read again";
  EXPECT_EQ(chat.turns().size(), 2U);
  EXPECT_EQ(chat.turns()[1].assistant, "We");
  chat.retry(model.sampler, {}, nullptr);
  EXPECT_EQ(model.text(), text);
}

TEST(Conversation, CanBeCancelledWhileItReads) {
  Lines model({" Hello."});
  Conversation chat(model.session);
  const std::string message(2000, 'x');
  const GenerateResult result =
      chat.say(message, Thinking::Free, model.sampler, {}, [](std::string_view) { return false; });
  EXPECT_EQ(result.reason, StopReason::Cancelled);
  EXPECT_EQ(result.text, "");
  EXPECT_LT(model.session.tokens().size(), 1000U);
  EXPECT_EQ(model.text(), "User: " + message + "\n\nAssistant:");
}

TEST(Conversation, ResetBeginsAnew) {
  Lines model({" Hello."});
  Conversation chat(model.session, "Be kind.");
  chat.say("Hi", Thinking::None, model.sampler, {}, nullptr);
  const std::string text = model.text();
  chat.reset();
  EXPECT_TRUE(chat.turns().empty());
  chat.say("Hi", Thinking::None, model.sampler, {}, nullptr);
  EXPECT_EQ(model.text(), text);
  chat.reset("Be short.");
  EXPECT_THROW(chat.retry(model.sampler, {}, nullptr), Error);
  chat.say("Hi", Thinking::None, model.sampler, {}, nullptr);
  EXPECT_EQ(model.text(), "System: Be short.\n\nUser: Hi\n\nAssistant: Hello.");
  EXPECT_THROW(chat.say(" \n", Thinking::None, model.sampler, {}, nullptr), Error);
}

TEST(Conversation, SavesAndLoads) {
  const TemporaryFolder folder;
  const std::string path = folder.path("chat.state");
  Lines model({" Hello.", " Well."});
  Conversation chat(model.session, "Be kind.");
  chat.say("Hi \xff", Thinking::None, model.sampler, {}, nullptr);
  chat.save(path);
  chat.say("And?", Thinking::None, model.sampler, {}, nullptr);

  Lines other({" Hello.", " Well."});
  Conversation loaded(other.session);
  loaded.load(path);
  ASSERT_EQ(loaded.turns().size(), 1U);
  EXPECT_EQ(loaded.turns()[0].user, "Hi \ufffd");
  EXPECT_EQ(loaded.turns()[0].assistant, "Hello.");
  EXPECT_EQ(loaded.system(), "Be kind.");
  EXPECT_THROW(loaded.retry(other.sampler, {}, nullptr), Error);
  loaded.say("And?", Thinking::None, other.sampler, {}, nullptr);
  EXPECT_EQ(other.text(), model.text());

  // A plain session has no turns to show, and the conversation goes on behind its text.
  save_session(path, other.session);
  loaded.load(path);
  EXPECT_TRUE(loaded.turns().empty());
  EXPECT_EQ(other.text(), model.text());
  EXPECT_THROW(loaded.load(folder.path("absent")), Error);
}

}  // namespace
}  // namespace gander
