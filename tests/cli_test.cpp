#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "backend/backend.h"
#include "tests/support/cli.h"

namespace gander {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// One line on stderr that begins with the program's name, nothing on stdout, exit code 1.
void expect_refused(const ProcessResult& result, const std::string& reason) {
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_THAT(result.err, StartsWith("gander: "));
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr(reason));
  EXPECT_EQ(result.out, "");
}

std::string joined(const std::vector<TokenId>& ids, char separator) {
  std::string text;
  for (const TokenId id : ids) {
    if (!text.empty()) text += separator;
    text += std::to_string(id);
  }
  return text;
}

TEST(Cli, HelpAndVersionGoToStandardOutput) {
  for (const char* command :
       {"run", "chat", "eval", "bench", "logits", "tokenize", "inspect", "quantize"}) {
    const ProcessResult help = run_gander({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_THAT(help.out, HasSubstr(std::string("Usage: gander ") + command));
    EXPECT_THAT(help.out, HasSubstr("Examples:"));
    EXPECT_THAT(run_gander({"--help"}).out, HasSubstr(std::string("\n  ") + command + " "));
  }
  EXPECT_EQ(run_gander({}).out, run_gander({"--help"}).out);
  EXPECT_THAT(run_gander({"--version"}).out, ContainsRegex("^gander [0-9]+\\.[0-9]+\\.[0-9]+\n$"));
}

TEST(Cli, WrongCommandLinesAreRefusedInOneLine) {
  const CliFolder folder;
  const std::string model = folder.model();
  const std::string text = folder.write("text", "once");
  expect_refused(run_gander({"rnu"}), "unknown command rnu, did you mean run?");
  expect_refused(run_gander({"run", "--temprature", "1"}), "did you mean --temperature?");
  expect_refused(run_gander({"run", "--xyzzy"}), "unknown option --xyzzy (see gander run --help)");
  expect_refused(run_gander({"run", model, "x", "-p", "a"}), "unexpected argument x");
  expect_refused(run_gander({"run", model, "-p", "a", "--top-k", "many"}), "--top-k");
  expect_refused(run_gander({"run", model, "-p", "a", "--top-p", "2"}), "top");
  expect_refused(run_gander({"run", model, "-p", "a", "--greedy", "--temp", "1"}), "--greedy");
  expect_refused(run_gander({"run", model, "-p", "a", "--threads", "0"}), "--threads");
  expect_refused(run_gander({"run", model, "-p", "a", "--backend", "gpu"}), "called gpu");
  expect_refused(run_gander({"run", model, "-p", "a", "--logit-bias", "7"}), "ID=VALUE");
  expect_refused(run_gander({"run", model, "-p", "a", "-f", text}), "excludes");
  expect_refused(run_gander({"eval"}), "FILE is required");
  expect_refused(run_gander({"eval", model, text, text}), "3");
  expect_refused(run_gander({"eval", model, text, "--limit", "0"}), "--limit");
  expect_refused(run_gander({"logits", model}), "--tokens is required");
  expect_refused(run_gander({"logits", model, "--tokens", "1,x"}), "\"x\" at offset 2");
  expect_refused(run_gander({"logits", model, "--tokens", ","}), "no token id");
  expect_refused(run_gander({"logits", model, "--tokens", "1,300"}), "300 is out of range");
  expect_refused(run_gander({"logits", model, "--tokens", "4294967296"}), "not a token id");
  expect_refused(run_gander({"completion", "tcsh"}), "tcsh");
}

TEST(Cli, FilesThatCannotBeUsedAreRefused) {
  const CliFolder folder;
  const std::string whole = read_text(folder.model());
  const std::string truncated = folder.write("truncated.gguf", whole.substr(0, whole.size() / 2));
  const std::string noise = folder.write("noise", "this is not a model at all");
  const std::string empty = folder.write("empty", "");
  for (const char* command : {"inspect", "run", "bench", "chat"}) {
    std::vector<std::string> arguments = {command, folder.path("absent")};
    if (std::string(command) == "run") arguments.insert(arguments.end(), {"-p", "once"});
    expect_refused(run_gander(arguments), "No such file");
    for (const std::string& path : {truncated, noise, empty}) {
      arguments[1] = path;
      expect_refused(run_gander(arguments), path);
    }
  }
  expect_refused(run_gander({"eval", folder.model(), folder.path("absent")}), "No such file");
  expect_refused(run_gander({"eval", folder.model(), folder.path("")}), "directory");
  expect_refused(run_gander({"eval", folder.model(), empty}), "is empty");
  expect_refused(run_gander({"tokenize", "--vocab", noise}), noise);
}

TEST(Cli, NamesWithControlCharactersStayOnOneLine) {
  expect_refused(run_gander({"inspect", "a\nb\x1b[31m"}), "a b\uFFFD[31m");
}

TEST(Cli, AFullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full";
  const CliFolder folder;
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"--help"},
           {"inspect", folder.model()},
           {"logits", folder.model(), "--tokens", "1"},
           {"run", folder.model(), "-p", "once", "-n", "4"},
           {"eval", folder.model(), folder.write("text", "once"), "--json"}}) {
    expect_refused(run_gander(arguments, {.output_path = "/dev/full"}), "No space left");
  }
}

TEST(Cli, AReaderThatGoesAwayEndsItQuietly) {
  const CliFolder folder;
  const std::string command = std::string(GANDER_EXECUTABLE) + " logits " + folder.model() +
                              " --tokens 1 --json | head -c 1; " + GANDER_EXECUTABLE + " run " +
                              folder.model() + " -p once -n 100000 --ignore-end | head -c 1";
  const ProcessResult result = run_process({"/bin/sh", "-c", command});
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out.substr(0, 1), "{");
}

TEST(Cli, TokenizeIsTheTokenizer) {
  const CliFolder folder;
  const std::string text = std::string("once the the\n\nUser: \xc3\xa9\xff\0 story", 30);
  const std::vector<TokenId> ids = folder.tokenizer().encode(text);
  const std::string line = joined(ids, ' ');
  for (const auto& source : std::vector<std::vector<std::string>>{
           {folder.model()},
           {"--vocab", folder.vocabulary()},
           {folder.bare_model(), "--vocab", folder.vocabulary()}}) {
    std::vector<std::string> arguments = {"tokenize"};
    arguments.insert(arguments.end(), source.begin(), source.end());
    EXPECT_EQ(run_gander(arguments, {.input = text}).out, line + "\n");
    arguments.push_back("--json");
    EXPECT_EQ(json::parse(run_gander(arguments, {.input = text}).out), json(ids));
    arguments.back() = "--decode";
    EXPECT_EQ(run_gander(arguments, {.input = line}).out, text);
    EXPECT_EQ(run_gander(arguments, {.input = json(ids).dump()}).out, text);
    expect_refused(run_gander(arguments, {.input = "1 2 265"}), "265 is out of range");
  }
  EXPECT_EQ(run_gander({"tokenize", folder.model()}).out, "\n");
}

TEST(Cli, TextNeedsATokenizer) {
  const CliFolder folder;
  const std::string text = folder.write("text", "once");
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"run", folder.bare_model(), "-p", "once"},
                                             {"chat", folder.bare_model()},
                                             {"tokenize", folder.bare_model()},
                                             {"eval", folder.bare_model(), text}}) {
    expect_refused(run_gander(arguments), "--vocab FILE");
  }
  EXPECT_EQ(run_gander({"eval", folder.bare_model(), text, "--vocab", folder.vocabulary()}).code,
            0);
}

TEST(Cli, LogitsAreThoseOfTheBackend) {
  const CliFolder folder;
  const std::vector<TokenId> tokens = {5, 299, 0, 42};
  const auto weights = std::make_shared<const Weights>(folder.weights());
  std::vector<float> expected(weights->config.vocab_size);
  create_backend("cpu", weights)->forward(tokens, Logits::Last, expected);

  const std::vector<std::string> arguments = {"logits", folder.bare_model(), "--tokens",
                                              joined(tokens, ',')};
  std::vector<std::string> with_json = arguments;
  with_json.emplace_back("--json");
  const json result = json::parse(run_gander(with_json).out);
  EXPECT_EQ(result["tokens"], json(tokens));
  EXPECT_EQ(result["logits"].get<std::vector<float>>(), expected);

  // The first line of the table is the largest logit.
  const auto largest = std::max_element(expected.begin(), expected.end());
  EXPECT_THAT(run_gander(arguments).out,
              ContainsRegex("p\n +" + std::to_string(largest - expected.begin()) + " "));
}

TEST(Cli, EvalIsTheMeanOverTheLogits) {
  const CliFolder folder;
  const std::string text = "once the \xc3\xa9 story, User";
  const std::vector<TokenId> tokens = folder.tokenizer().encode(text);
  const std::size_t limit = tokens.size() - 1;
  double sum = 0;
  std::vector<TokenId> read = {0};
  for (std::size_t i = 0; i < limit; ++i) {
    const ProcessResult result =
        run_gander({"logits", folder.model(), "--tokens", joined(read, ','), "--json"});
    const auto logits = json::parse(result.out)["logits"].get<std::vector<double>>();
    double total = 0;
    for (const double logit : logits) total += std::exp(logit);
    sum += std::log(total) - logits[tokens[i]];
    read.push_back(tokens[i]);
  }
  const double nll = sum / static_cast<double>(limit);
  const std::size_t bytes = text.size() - folder.tokenizer().bytes(tokens.back()).size();

  const std::string file = folder.write("text", text);
  const json result = json::parse(
      run_gander({"eval", folder.model(), file, "--limit", std::to_string(limit), "--json"}).out);
  EXPECT_NEAR(result["nll"], nll, 1e-6 * nll);
  EXPECT_NEAR(result["perplexity"], std::exp(nll), 1e-5 * std::exp(nll));
  EXPECT_EQ(result["tokens"], limit);
  EXPECT_EQ(result["bytes"], bytes);
  EXPECT_NEAR(result["bits_per_byte"], sum / std::log(2) / static_cast<double>(bytes), 1e-5);

  const ProcessResult all = run_gander({"eval", folder.model(), "-", "--json"}, {.input = text});
  EXPECT_EQ(json::parse(all.out)["tokens"], tokens.size());
  EXPECT_EQ(json::parse(all.out)["bytes"], text.size());
}

TEST(Cli, InspectShowsWhatTheFileHolds) {
  const CliFolder folder;
  const Config& config = folder.weights().config;
  const json result = json::parse(run_gander({"inspect", folder.model(), "--json"}).out);
  EXPECT_EQ(result["architecture"], "rwkv7");
  EXPECT_EQ(result["naming"], "GGUF");
  EXPECT_EQ(result["config"]["layers"], config.layers);
  EXPECT_EQ(result["config"]["rank_g"], config.rank_g);
  EXPECT_EQ(result["tokenizer"]["size"], 265);
  EXPECT_EQ(result["metadata"]["general.architecture"], "rwkv7");
  EXPECT_EQ(result["metadata"]["tokenizer.ggml.tokens"]["strings"], 300);
  std::uint64_t elements = 0;
  for (const json& tensor : result["tensors"]) {
    std::uint64_t count = 1;
    for (const std::uint64_t extent : tensor["shape"]) count *= extent;
    EXPECT_EQ(tensor["bytes"], 4 * count) << tensor["name"];
    elements += count;
  }
  // GGUF repeats a0, a1 and a2 as a value residual for layer 0, which has none.
  EXPECT_EQ(result["parameters"], elements - config.width * (2 * config.rank_a + 1));

  const std::string human = run_gander({"inspect", folder.model()}).out;
  EXPECT_THAT(human, HasSubstr("RWKV-7"));
  EXPECT_THAT(human, HasSubstr("2 × blk.N.time_mix_key.weight"));
  EXPECT_THAT(human, Not(HasSubstr("\x1b")));
  EXPECT_THAT(run_gander({"inspect", folder.model(), "--tensors"}).out,
              HasSubstr("blk.1.time_mix_key.weight"));
  EXPECT_THAT(run_gander({"inspect", folder.bare_model()}).out, HasSubstr("--vocab FILE"));
}

TEST(Cli, BenchMeasures) {
  const CliFolder folder;
  const std::vector<std::string> arguments = {
      "bench", folder.bare_model(), "--runs", "2", "--prefill", "8", "--decode", "4"};
  std::vector<std::string> with_json = arguments;
  with_json.emplace_back("--json");
  const json result = json::parse(run_gander(with_json).out);
  for (const char* kind : {"prefill", "decode"}) {
    const json& speeds = result[kind]["tokens_per_second"];
    EXPECT_GT(speeds["min"], 0);
    EXPECT_LE(speeds["min"], speeds["median"]);
    EXPECT_LE(speeds["median"], speeds["max"]);
  }
  EXPECT_EQ(result["bytes_per_token"], bytes_per_token(folder.weights()));
  EXPECT_GT(result["bandwidth"]["bytes_per_second"], 0);
  EXPECT_THAT(run_gander(arguments).out, HasSubstr("decode reads"));
}

TEST(Cli, SelftestComparesWithDoublePrecision) {
  const CliFolder folder;
  const std::vector<std::string> arguments = {"selftest", folder.bare_model(), "--backend",
                                              "emulated"};
  std::vector<std::string> with_json = arguments;
  with_json.emplace_back("--json");
  const json result = json::parse(run_gander(with_json).out);
  EXPECT_EQ(result["passed"], true);
  EXPECT_EQ(result["layers"], json({0, 1}));
  EXPECT_EQ(result["generates"], true);
  EXPECT_EQ(result["takes_likeliest"], true);
  EXPECT_LE(result["logits_error"], result["tolerance"]);
  EXPECT_THAT(run_gander(arguments).out,
              ContainsRegex("layers 0, 1, against double precision: logits are off by"));
}

TEST(Cli, CompletionScriptsKnowTheOptions) {
  const ProcessResult bash = run_gander({"completion", "bash"});
  EXPECT_EQ(run_process({"/bin/bash", "-n"}, {.input = bash.out}).code, 0);
  const std::string request =
      bash.out +
      "COMP_WORDS=(gander run --temp); COMP_CWORD=2; _gander; echo \"${COMPREPLY[*]}\"\n";
  EXPECT_EQ(run_process({"/bin/bash"}, {.input = request}).out, "--temperature --temp\n");
  EXPECT_THAT(run_gander({"completion", "zsh"}).out, HasSubstr("'--penalty-decay["));
  EXPECT_THAT(run_gander({"completion", "fish"}).out, HasSubstr("-l penalty-decay"));
}

}  // namespace
}  // namespace gander
