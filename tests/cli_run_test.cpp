#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/cli.h"

namespace gander {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class CliRun : public ::testing::Test {
 protected:
  ProcessResult run(std::vector<std::string> arguments, ProcessOptions options = {}) const {
    arguments.insert(arguments.begin(), {"run", folder_.model()});
    return run_gander(arguments, std::move(options));
  }
  json run_json(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--json", "--ignore-end"});
    return json::parse(run(std::move(arguments)).out);
  }

  CliFolder folder_;
};

TEST_F(CliRun, SameSeedSameText) {
  const auto text = [&](const char* seed) {
    return run({"-p", "once", "-n", "40", "--ignore-end", "--seed", seed}).out;
  };
  const std::string first = text("1");
  EXPECT_GT(first.size(), 10U);
  EXPECT_EQ(first, text("1"));
  EXPECT_NE(first, text("2"));
  // Without one every run draws its own, and says which.
  const json one = run_json({"-p", "once", "-n", "40"});
  const json other = run_json({"-p", "once", "-n", "40"});
  EXPECT_NE(one["settings"]["seed"], other["settings"]["seed"]);
  EXPECT_NE(one["text"], other["text"]);
  const std::string seed = one["settings"]["seed"].dump();
  EXPECT_EQ(run_json({"-p", "once", "-n", "40", "--seed", seed})["text"], one["text"]);
}

TEST_F(CliRun, JsonHoldsTheResult) {
  const json result = run_json({"-p", "once", "-n", "7", "--seed", "3", "--temp", "0.7", "--top-k",
                                "50", "--logit-bias", "20=1.5"});
  EXPECT_EQ(result["text"].get<std::string>() + "\n",
            run({"-p", "once", "-n", "7", "--seed", "3", "--temp", "0.7", "--top-k", "50",
                 "--logit-bias", "20=1.5", "--ignore-end"})
                .out);
  EXPECT_EQ(result["tokens"], 7);
  EXPECT_EQ(result["prompt_tokens"], 2);  // token 0 and "once"
  EXPECT_EQ(result["stop_reason"], "length");
  EXPECT_GT(result["timings"]["tokens_per_second"], 0);
  EXPECT_EQ(result["settings"]["temperature"], 0.7);
  EXPECT_EQ(result["settings"]["top_k"], 50);
  EXPECT_EQ(result["settings"]["logit_bias"]["20"], 1.5);
  EXPECT_EQ(result["settings"]["seed"], 3);
}

TEST_F(CliRun, SettingsReachTheSampler) {
  // A bias that outweighs everything: byte 'x' is token 121.
  EXPECT_EQ(run({"-p", "once", "-n", "5", "--logit-bias", "121=1000"}).out, "xxxxx\n");
  EXPECT_EQ(run({"-p", "once", "-n", "5", "--logit-bias", "0=1000"}).out, "\n");
  EXPECT_EQ(run_json({"-p", "once", "-n", "5", "--logit-bias", "0=1000"})["tokens"], 5);
  EXPECT_EQ(run_json({"-p", "once", "-n", "9", "--greedy"})["text"],
            run_json({"-p", "once", "-n", "9", "--top-k", "1"})["text"]);
}

TEST_F(CliRun, StopsBeforeAStopString) {
  const std::vector<std::string> arguments = {
      "-p", "once", "-n", "50", "--logit-bias", "121=1000", "--stop", "never", "--stop", "xxx"};
  EXPECT_EQ(run(arguments).out, "\n");
  const json result = run_json(arguments);
  EXPECT_EQ(result["stop_reason"], "stop_string");
  EXPECT_EQ(result["text"], "");
}

TEST_F(CliRun, ThePromptComesFromAnywhere) {
  const std::vector<std::string> rest = {"-n", "20", "--greedy", "-q"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    return arguments;
  };
  const ProcessResult expected = run(with({"-p", "once \xc3\xa9"}));
  EXPECT_EQ(expected.err, "");
  const std::string file = folder_.write("prompt", "once \xc3\xa9\n");
  EXPECT_EQ(run(with({"-f", file})).out, expected.out);
  EXPECT_EQ(run(with({}), {.input = "once \xc3\xa9"}).out, expected.out);
  EXPECT_EQ(run(with({"-f", "-"}), {.input = "once \xc3\xa9\r\n"}).out, expected.out);
  EXPECT_EQ(run(with({"-p", "once \xc3\xa9", "--echo"})).out, "once \xc3\xa9" + expected.out);
  EXPECT_THAT(run({"-p", "once", "-n", "3"}).err, ContainsRegex("generated [0-3] tokens"));
}

TEST_F(CliRun, PromptsThatCannotBeReadAreRefused) {
  const auto error = [&](const std::vector<std::string>& arguments, const std::string& input) {
    const ProcessResult result = run(arguments, {.input = input});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1);
    return result.err;
  };
  EXPECT_THAT(error({"-p", ""}, ""), HasSubstr("the prompt is empty"));
  EXPECT_THAT(error({}, ""), HasSubstr("standard input is empty"));
  EXPECT_THAT(error({}, "\n"), HasSubstr("standard input is empty"));
  EXPECT_THAT(error({"-f", folder_.write("e", "")}, ""), HasSubstr("is empty"));
  for (const char* invalid : {"\xff", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
                              "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xe2\x82"}) {
    const std::string prompt = std::string("\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x86!") + invalid;
    EXPECT_THAT(error({"-p", prompt}, ""), HasSubstr("at offset 10"));
    EXPECT_THAT(error({}, prompt + "more"), HasSubstr("at offset 10"));
  }
}

TEST_F(CliRun, AStateIsContinued) {
  const std::string state = folder_.path("state");
  const json whole = run_json({"-p", "once the story", "-n", "20", "--greedy"});
  run({"-p", "once the", "-n", "0", "--save-state", state});
  ASSERT_TRUE(std::filesystem::exists(state));
  const json rest = run_json({"-p", " story", "-n", "20", "--greedy", "--state", state});
  EXPECT_EQ(rest["text"], whole["text"]);
  EXPECT_LT(rest["prompt_tokens"], whole["prompt_tokens"]);

  const std::string bytes = read_text(state);
  const std::string damaged = folder_.write("damaged", bytes.substr(0, bytes.size() - 9));
  EXPECT_EQ(run({"-p", "a", "--state", damaged}).code, 1);
  EXPECT_EQ(run({"-p", "a", "--state", folder_.path("absent")}).code, 1);
  const ProcessResult nowhere = run({"-p", "a", "-n", "1", "--save-state", folder_.path("no/x")});
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_THAT(nowhere.err, HasSubstr("gander: "));
}

TEST_F(CliRun, CtrlCEndsTheGeneration) {
  const std::string state = folder_.path("state");
  Process process(gander_command({"run", folder_.model(), "-p", "once", "-n", "4000000",
                                  "--logit-bias", "121=1000", "--save-state", state}));
  ASSERT_TRUE(process.wait_for_output("xxxxxxxxxx"));
  process.send_signal(SIGINT);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(result.out.back(), '\n');
  EXPECT_THAT(result.err, HasSubstr("tok/s"));
  EXPECT_FALSE(std::filesystem::exists(state));
}

TEST_F(CliRun, CtrlCEndsAnEvaluation) {
  const std::string text = folder_.write("text", std::string(std::size_t{1} << 24, 'x'));
  Process process(gander_command({"eval", folder_.model(), text}));
  ::usleep(300'000);
  process.send_signal(SIGINT);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.code, 130);
  EXPECT_EQ(result.out, "");
}

TEST_F(CliRun, TheBuiltInModelNeedsNoName) {
  const ProcessResult elsewhere = run_gander({"run", "-p", "once", "-n", "5", "--greedy"},
                                             {.environment = {{"GANDER_MODEL", folder_.model()}}});
  EXPECT_EQ(elsewhere.out, run({"-p", "once", "-n", "5", "--greedy"}).out);
  EXPECT_EQ(run_gander({"inspect"}, {.environment = {{"GANDER_MODEL", "/nowhere"}}}).code, 1);
}

}  // namespace
}  // namespace gander
