#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/support/cli.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CliChat : public ::testing::Test {
 protected:
  std::vector<std::string> command(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"chat", folder_.model(), "-n", "12", "--seed", "5"});
    return gander_command(arguments);
  }
  ProcessResult chat(const std::string& input,
                     const std::vector<std::string>& arguments = {}) const {
    return run_process(command(arguments), {.input = input});
  }
  // A terminal of its own, with a history that is not the user's.
  Process on_terminal(const std::vector<std::string>& arguments) const {
    return Process(command(arguments), {.environment = {{"TERM", "xterm"},
                                                        {"NO_COLOR", "1"},
                                                        {"XDG_STATE_HOME", folder_.path("")}},
                                        .terminal = true});
  }

  // Every answer is x's: byte 'x' is token 121.
  const std::vector<std::string> only_x_ = {"--logit-bias", "121=1000"};
  CliFolder folder_;
};

TEST_F(CliChat, AnswersAreAllThatIsWritten) {
  const ProcessResult result = chat("once\n\n  \nthe story\n", only_x_);
  EXPECT_EQ(result.out, "xxxxxxxxxxxx\nxxxxxxxxxxxx\n");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(chat("once\\\nthe\r\n", only_x_).out, "xxxxxxxxxxxx\n");
  EXPECT_EQ(chat("once\n/quit\nmore\n", only_x_).out, "xxxxxxxxxxxx\n");
}

TEST_F(CliChat, TheWholeConversationCounts) {
  const std::string first = chat("once\nthe\n").out;
  EXPECT_EQ(first, chat("once\nthe\n").out);
  EXPECT_NE(first, chat("once\nthe\n", {"--system", "User"}).out);
  const auto greedy_end = [&](const std::string& input) {
    const std::string out = chat(input, {"--temp", "0", "--logit-bias", "11=-1000"}).out;
    return out.substr(out.rfind('\n', out.size() - 2) + 1);
  };
  EXPECT_NE(greedy_end("once\nthe\n"), greedy_end("story\nthe\n"));
  EXPECT_EQ(greedy_end("story\n/reset\nonce\nthe\n"), greedy_end("once\nthe\n"));
  EXPECT_EQ(greedy_end("story\n/system User\nthe\n"),
            chat("the\n", {"--temp", "0", "--logit-bias", "11=-1000", "--system", "User"}).out);
}

TEST_F(CliChat, RetryAnswersAgain) {
  const std::string sampled = chat("once\n/retry\n").out;
  const std::string first = chat("once\n").out;
  EXPECT_EQ(sampled.substr(0, first.size()), first);
  EXPECT_NE(sampled, first + first);
  // Greedy decoding leaves no choice: the state must be that before the first answer.
  const std::string greedy = chat("once\n", {"--temp", "0"}).out;
  EXPECT_EQ(chat("once\n/retry\n", {"--temp", "0"}).out, greedy + greedy);
}

TEST_F(CliChat, SavedConversationsGoOn) {
  const std::string path = folder_.path("saved");
  const std::vector<std::string> greedy = {"--temp", "0"};
  const std::string whole = chat("once\nthe story\n", greedy).out;
  const std::string first = chat("once\n/save " + path + "\n", greedy).out;
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(first + chat("story\n/load " + path + "\nthe story\n", greedy)
                        .out.substr(chat("story\n", greedy).out.size()),
            whole);
  EXPECT_EQ(first + chat("the story\n", {"--temp", "0", "--state", path}).out, whole);
}

TEST_F(CliChat, ThoughtsAreMarked) {
  // Byte '>' is token 63: it ends the tag, then the thought or the answer is made of it.
  const std::vector<std::string> only = {"--logit-bias", "63=1000", "--think"};
  const auto with = [&](const std::string& mode) {
    std::vector<std::string> arguments = only;
    if (!mode.empty()) arguments.push_back(mode);
    return chat("once\n", arguments).out;
  };
  EXPECT_EQ(with("off"), ">>>>>>>>>>>>\n");
  EXPECT_EQ(with("fake"), ">>>>>>>>>>>\n");
  EXPECT_EQ(with("on"), "<think>\n>>>>>>>>>>>\n</think>\n\n");
  EXPECT_EQ(with(""), with("on"));
  EXPECT_EQ(with("long"), with("on"));
  // The word after a bare --think may be the model.
  EXPECT_EQ(run_process(gander_command({"chat", "-n", "12", "--logit-bias", "63=1000", "--think",
                                        folder_.model()}),
                        {.input = "once\n"})
                .out,
            with("on"));
  EXPECT_THAT(chat("", {"--think", "deeply"}).err, HasSubstr("gander: --think deeply"));
}

TEST_F(CliChat, ErrorsEndAScript) {
  for (const char* input : {"/rety\nonce\n", "/retry\n", "/save\n", "/load /nowhere/x\nonce\n",
                            "/save /nowhere/x\nonce\n", "\xff\n"}) {
    const ProcessResult result = chat(input, only_x_);
    EXPECT_EQ(result.code, 1) << input;
    EXPECT_EQ(result.out, "") << input;
    EXPECT_EQ(result.err.rfind("gander: ", 0), 0U) << result.err;
  }
  EXPECT_THAT(chat("/rety\n").err, HasSubstr("did you mean /retry?"));
}

TEST_F(CliChat, CtrlCEndsAScript) {
  std::vector<std::string> arguments = only_x_;
  arguments.insert(arguments.end(), {"-n", "4000000"});
  Process process(command(arguments), {.input = "once\nonce\n"});
  ASSERT_TRUE(process.wait_for_output("xxxxxxxx"));
  process.send_signal(SIGINT);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(result.out.find('\n'), result.out.size() - 1);
}

// What is typed before the prompt stands there goes to the terminal, not to the editor.
TEST_F(CliChat, LinesAreEditedAtATerminal) {
  Process process = on_terminal(only_x_);
  ASSERT_TRUE(process.wait_for_output("/help lists the commands"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("/hlp\x1b[D\x1b[De\n");  // two to the left, and the missing letter
  ASSERT_TRUE(process.wait_for_output("another answer"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("once\n");
  ASSERT_TRUE(process.wait_for_output("xxxxxxxxxxxx"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("/rety\n");
  ASSERT_TRUE(process.wait_for_output("did you mean /retry?"));
  ASSERT_TRUE(process.wait_for_output("> "));  // the chat goes on
  process.type("\x04");
  EXPECT_EQ(process.finish().code, 0);
  EXPECT_THAT(read_text(folder_.path("gander/chat_history")), HasSubstr("/help"));
}

TEST_F(CliChat, CtrlCAtATerminal) {
  std::vector<std::string> arguments = only_x_;
  arguments.insert(arguments.end(), {"-n", "4000000"});
  Process process = on_terminal(arguments);
  ASSERT_TRUE(process.wait_for_output("/help lists the commands"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("once\n");
  ASSERT_TRUE(process.wait_for_output("xxxxxxxxxxxxxxxx"));
  process.type("\x03");  // stops the answer, not the chat
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("/save /nowhere\x03");  // clears the line
  ASSERT_TRUE(process.wait_for_output("^C"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("/help\n");
  ASSERT_TRUE(process.wait_for_output("another answer"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("\x03");
  ASSERT_TRUE(process.wait_for_output("Ctrl-C once more"));
  ASSERT_TRUE(process.wait_for_output("> "));
  process.type("\x03");
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, Not(HasSubstr("cannot")));
}

}  // namespace
}  // namespace gander
