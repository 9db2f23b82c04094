#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/cli.h"

// `gander bench batch`, and on the emulation `gander bench sync` and `gander bench roofline`.
namespace gander {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

void expect_refused(const std::vector<std::string>& arguments, const std::string& reason) {
  const ProcessResult result = run_gander(arguments);
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr(reason));
  EXPECT_EQ(result.out, "");
}

std::vector<std::string> bench(const std::string& part, const std::string& model,
                               std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"bench", part, model, "--backend", "emulated"};
  if (part == "sync") arguments.insert(arguments.end(), {"--tokens", "2", "--runs", "1"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// An XML parser of another kin reads the file and prints the classes of its rectangles and all
// text.
std::string read_svg(const std::string& path) {
  const std::string script =
      "import sys, xml.etree.ElementTree as tree\n"
      "for node in tree.parse(sys.argv[1]).iter():\n"
      "  if node.tag.endswith('rect'): print('rect', node.get('class'))\n"
      "  if node.text and node.text.strip(): print(node.text)\n";
  const ProcessResult result = run_process({"/usr/bin/env", "python3", "-c", script, path});
  EXPECT_EQ(result.code, 0) << result.err;
  return result.out;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
  return found;
}

TEST(CliBench, BatchMeasuresEveryShape) {
  const CliFolder folder;
  const std::string svg = folder.bare_model() + ".svg";
  const std::vector<std::string> arguments = {
      "bench",       "batch", folder.bare_model(), "--backend", "cpu",   "--steps", "2",
      "--sequences", "3",     "--prefill",         "40",        "--svg", svg};
  std::vector<std::string> with_json = arguments;
  with_json.emplace_back("--json");
  const json result = json::parse(run_gander(with_json).out);
  std::vector<int> sequences;
  std::vector<int> prefill;
  for (const json& times : result["decode"]) sequences.push_back(times["sequences"]);
  for (const json& times : result["prefill"]) prefill.push_back(times["prefill"]);
  EXPECT_EQ(sequences, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(prefill, (std::vector<int>{16, 32, 40}));
  const json& mixed = result["mixed"];
  EXPECT_EQ(mixed["sequences"], 3);
  EXPECT_EQ(mixed["prefill"], 40);
  EXPECT_GT(mixed["seconds"]["min"], 0);
  EXPECT_LE(mixed["seconds"]["min"], mixed["seconds"]["median"]);
  EXPECT_LE(mixed["seconds"]["median"], mixed["seconds"]["max"]);
  EXPECT_NEAR(mixed["tokens_per_second"].get<double>(),
              43 / mixed["seconds"]["median"].get<double>(), 1);
  EXPECT_THAT(read_svg(svg), HasSubstr("mixed 3 × 1 + 40"));

  EXPECT_THAT(run_gander(arguments).out, ContainsRegex("mixed +3 × 1 . 40 "));
}

TEST(CliBench, SyncShowsEveryWayOfWaiting) {
  const CliFolder folder;
  const json result = json::parse(run_gander(bench("sync", folder.bare_model(), {"--json"})).out);
  EXPECT_EQ(result["emulated"], true);
  EXPECT_EQ(result["tokens"], 2);
  ASSERT_EQ(result["ways"].size(), 8U);
  const json& first = result["ways"][0];
  EXPECT_EQ(first["kernels"], "unfused");
  EXPECT_EQ(first["sync"], "op");
  EXPECT_EQ(first["waits"], first["dispatches"]);
  EXPECT_EQ(first["submissions"], 2 * 50 + 3);
  const json& last = result["ways"][7];
  EXPECT_EQ(last["kernels"], "stages");
  EXPECT_EQ(last["sync"], "async");
  EXPECT_EQ(last["dispatches"], 2 * 5 + 3);
  EXPECT_EQ(last["waiting_seconds"], 0);
  EXPECT_GT(last["tokens_per_second"], 0);

  const std::string table = run_gander(bench("sync", folder.bare_model())).out;
  EXPECT_THAT(table, ContainsRegex("stages +each layer"));
  EXPECT_THAT(table, HasSubstr("its times say nothing about a GPU"));
}

TEST(CliBench, RooflineShowsEveryStage) {
  const CliFolder folder;
  const json result =
      json::parse(run_gander(bench("roofline", folder.bare_model(), {"--json"})).out);
  EXPECT_EQ(result["kernels"], "stages");
  EXPECT_GT(result["bandwidth"]["bytes_per_second"], 0);
  ASSERT_EQ(result["stages"].size(), 8U);
  const double bandwidth = result["bandwidth"]["bytes_per_second"];
  std::uint64_t bytes = 0;
  for (const json& stage : result["stages"]) {
    bytes += stage["bytes"].get<std::uint64_t>();
    EXPECT_NEAR(stage["share_of_bandwidth"],
                stage["moved_bytes"].get<double>() / stage["seconds"].get<double>() / bandwidth,
                1e-6);
  }
  EXPECT_EQ(result["sum"]["bytes"], bytes);
  EXPECT_LE(result["sum"]["moved_bytes"], bytes);

  const std::string table = run_gander(bench("roofline", folder.bare_model())).out;
  EXPECT_THAT(table, ContainsRegex("\nD ffn key +2 "));
  EXPECT_THAT(table, HasSubstr("a kernel that does nothing else reads"));
}

TEST(CliBench, PlotsAreSvg) {
  const CliFolder folder;
  const std::string model = folder.path("a <b> & \"c\".gguf");
  std::filesystem::copy_file(folder.bare_model(), model);
  const std::string file = folder.path("plot.svg");
  for (const auto& [part, bars] : {std::pair{"sync", 8U}, std::pair{"roofline", 8U}}) {
    const ProcessResult result = run_gander(bench(part, model, {"--svg", file}));
    EXPECT_EQ(result.code, 0) << result.err;
    const std::string svg = read_svg(file);
    const bool has_legend = std::string(part) == "sync";
    EXPECT_EQ(count(svg, "rect value\n"), bars + (has_legend ? 1 : 0)) << svg;
    EXPECT_THAT(svg, HasSubstr("a <b> & \"c\".gguf on emulated"));
    EXPECT_THAT(svg, HasSubstr(has_legend ? "stages, each layer" : "C time mix out"));
    EXPECT_THAT(svg, HasSubstr(has_legend ? "milliseconds a token" : "read bandwidth, measured"));
  }
}

TEST(CliBench, RefusesWhatItCannotMeasure) {
  const CliFolder folder;
  const std::string model = folder.bare_model();
  expect_refused({"bench", "sync", model, "--backend", "cpu"}, "bench sync needs a GPU backend");
  expect_refused({"bench", "sync", model, "--backend", "reference"}, "reference is none");
  expect_refused({"bench", "roofline", model, "--backend", "cpu"},
                 "gander bench shows the CPU's share of its bandwidth");
  expect_refused({"bench", "--json", "sync", model}, "its options come after the word sync");
  expect_refused({"bench", "sync", model, "--runz", "2"},
                 "did you mean --runs? (see gander bench sync --help)");
  expect_refused({"bench", "sync", model, "--sync", "op"}, "unknown option --sync");
  // Told before anything is measured, and nothing is left behind.
  expect_refused(bench("sync", folder.path("absent"), {"--svg", folder.path("no/plot.svg")}),
                 "no/plot.svg");
  expect_refused(bench("sync", folder.path("absent"), {"--svg", folder.path("plot.svg")}),
                 "No such file");
  EXPECT_FALSE(std::filesystem::exists(folder.path("plot.svg")));
}

TEST(CliBench, HelpAndCompletionKnowTheParts) {
  EXPECT_THAT(run_gander({"bench", "--help"}).out, ContainsRegex("\n  roofline +Measure"));
  EXPECT_THAT(run_gander({"bench", "sync", "--help"}).out,
              HasSubstr("Usage: gander bench sync [OPTIONS] [MODEL]"));
  const auto complete = [](const std::string& words, int current) {
    const std::string script = run_gander({"completion", "bash"}).out + "COMP_WORDS=(gander " +
                               words + "); COMP_CWORD=" + std::to_string(current) +
                               "; compopt() { :; }; _gander; echo \"${COMPREPLY[*]}\"\n";
    return run_process({"/bin/bash"}, {.input = script}).out;
  };
  EXPECT_EQ(complete("bench sy", 2), "sync\n");
  EXPECT_EQ(complete("bench sync --sv", 3), "--svg\n");
  EXPECT_EQ(complete("bench --pre", 2), "--prefill\n");
  EXPECT_THAT(complete("run --temp", 2), Not(HasSubstr("sync")));
  EXPECT_THAT(run_gander({"completion", "fish"}).out, HasSubstr("-a 'batch sync roofline serve'"));
  EXPECT_THAT(run_gander({"completion", "zsh"}).out, HasSubstr("batch sync roofline serve"));
}

}  // namespace
}  // namespace gander
