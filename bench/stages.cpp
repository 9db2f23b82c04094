// gander_stages: what each stage of the CPU backend costs, in its place in the token program.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "base/bandwidth.h"
#include "base/error.h"
#include "base/memory.h"
#include "bench/stage_program.h"
#include "bench/synthetic_file.h"

namespace gander {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string model;
  unsigned threads = usable_cores();
  std::uint32_t runs = 20;
  std::uint32_t prefill = 512;
  bool json = false;
};

struct Figure {
  double median, best;

  static Figure of(std::vector<double> values) {
    std::ranges::sort(values);
    return {values[values.size() / 2], values.front()};
  }
  Json json() const { return {{"median", median}, {"best", best}}; }
};

/// What was measured with chunks of one length.
struct Pass {
  std::size_t tokens;
  std::array<Figure, kStageNames.size()> stages;  ///< seconds of the chunk, all layers
  Figure whole;
};

std::vector<TokenId> some_tokens(std::size_t count, std::uint32_t vocab_size) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<TokenId>((i + 1) * 7919 % vocab_size);
  }
  return tokens;
}

Pass measure_stages(StageProgram& program, std::span<const TokenId> tokens, std::uint32_t runs) {
  std::array<std::vector<double>, kStageNames.size()> seconds;
  std::vector<double> whole;
  for (std::uint32_t run = 0; run <= runs; ++run) {
    const StageSeconds one = program.run(tokens);
    if (run == 0) continue;  // a warm-up
    for (std::size_t stage = 0; stage < one.size(); ++stage) seconds[stage].push_back(one[stage]);
    whole.push_back(std::accumulate(one.begin(), one.end(), 0.0));
  }
  Pass pass{tokens.size(), {}, Figure::of(whole)};
  for (std::size_t stage = 0; stage < seconds.size(); ++stage) {
    pass.stages[stage] = Figure::of(seconds[stage]);
  }
  return pass;
}

template <typename Work>
Figure repeated(std::uint32_t runs, const Work& work) {
  std::vector<double> values;
  for (std::uint32_t run = 0; run <= runs; ++run) {
    const double value = work();
    if (run > 0) values.push_back(value);
  }
  return Figure::of(std::move(values));
}

// Seconds of reading `tokens` as the backend does it, chunk after chunk.
double time_forward(Backend& backend, std::span<const TokenId> tokens) {
  std::vector<float> logits(backend.config().vocab_size);
  backend.reset();
  const Clock::time_point begin = Clock::now();
  backend.forward(tokens, Logits::Last, logits);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Seconds of a token of a model with 12 layers whose matrices take next to no time.
Figure fixed_cost(const Options& options) {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("gander-tiny-{}.gguf", ::getpid()))
          .string();
  SyntheticOptions synthetic;
  synthetic.config = synthetic_shapes().front().config;
  synthetic.config.width = 64;
  synthetic.config.heads = 2;
  synthetic.config.head_size = 32;
  synthetic.config.ffn_width = 64;
  synthetic.large = DataType::Q8_0;
  write_synthetic_file(path, synthetic);
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(path)));
  std::filesystem::remove(path);  // stays mapped
  CpuBackend backend(std::move(weights), options.threads);
  const std::vector<TokenId> tokens = {1};
  return repeated(10 * options.runs, [&] { return time_forward(backend, tokens); });
}

Json stage_json(const Weights& weights, const Pass& pass, double bandwidth) {
  const auto bytes = stage_bytes(weights);
  Json json = Json::array();
  for (std::size_t stage = 0; stage < kStageNames.size(); ++stage) {
    const double rate = static_cast<double>(bytes[stage]) / pass.stages[stage].median;
    Json entry = {{"stage", kStageNames[stage]},
                  {"seconds", pass.stages[stage].json()},
                  {"bytes", bytes[stage]}};
    if (pass.tokens == 1) {
      entry["bytes_per_second"] = rate;
      entry["share_of_bandwidth"] = rate / bandwidth;
    }
    json.push_back(std::move(entry));
  }
  return json;
}

void print_stages(const Weights& weights, const Pass& pass, double bandwidth) {
  const auto bytes = stage_bytes(weights);
  const auto per_layer = [&](std::size_t stage) {
    return stage == kEmbed || stage == kHead ? 1.0 : static_cast<double>(weights.layers.size());
  };
  const double each = 1e6 / static_cast<double>(pass.tokens);
  fmt::print("\n{}: {:.0f} µs a token (best {:.0f})\n",
             pass.tokens == 1 ? "one token" : fmt::format("chunk of {} tokens", pass.tokens),
             each * pass.whole.median, each * pass.whole.best);
  fmt::print("{:<16} {:>10} {:>10} {:>8} {:>10}", "", "µs a layer", "best", "of all", "bytes");
  fmt::print("{}\n", pass.tokens == 1 ? "     GB/s of bandwidth" : "");
  for (std::size_t stage = 0; stage < kStageNames.size(); ++stage) {
    const Figure& figure = pass.stages[stage];
    fmt::print("{:<16} {:>10.2f} {:>10.2f} {:>6.1f} % {:>10}", kStageNames[stage],
               each * figure.median / per_layer(stage), each * figure.best / per_layer(stage),
               100 * figure.median / pass.whole.median,
               bytes_text(bytes[stage] / static_cast<std::uint64_t>(per_layer(stage))));
    const double rate = static_cast<double>(bytes[stage]) / figure.median;
    if (pass.tokens == 1) fmt::print(" {:>8.1f} {:>9.0f} %", rate / 1e9, 100 * rate / bandwidth);
    fmt::print("\n");
  }
}

void measure(const Options& options) {
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(options.model)));
  const Config config = weights->config;
  const std::vector<TokenId> tokens = some_tokens(options.prefill, config.vocab_size);
  BandwidthProbe probe(options.threads);
  const double bandwidth = probe.measure();

  std::vector<Pass> passes;
  Figure step{};
  Figure wake{};
  double zeros = 0;
  const char* instruction_set = "";
  {  // only one packed copy of the weights at a time
    StageProgram program(weights, options.threads);
    instruction_set = program.instruction_set();
    zeros = program.zeros(std::span(tokens).first(std::min<std::size_t>(8, tokens.size())));
    passes.push_back(measure_stages(program, std::span(tokens).first(1), options.runs));
    const std::size_t chunk = std::min<std::size_t>(CpuBackend::kChunk, tokens.size());
    passes.push_back(
        measure_stages(program, std::span(tokens).first(chunk), std::max(2U, options.runs / 5)));
    step = repeated(options.runs, [&] { return program.step(); });
    wake = repeated(10 * options.runs, [&] { return program.wake(); });
  }
  Figure decode{};
  Figure prefill{};
  {
    CpuBackend backend(weights, options.threads);
    decode =
        repeated(options.runs, [&] { return time_forward(backend, std::span(tokens).first(1)); });
    prefill =
        repeated(std::max(2U, options.runs / 5), [&] { return time_forward(backend, tokens); });
  }
  const Figure fixed = fixed_cost(options);

  if (options.json) {
    Json json = {{"model", options.model},
                 {"instruction_set", instruction_set},
                 {"threads", options.threads},
                 {"bandwidth", bandwidth},
                 {"zeros", zeros},
                 {"step_seconds", step.json()},
                 {"wake_seconds", wake.json()},
                 {"fixed_seconds", fixed.json()},
                 {"decode_seconds", decode.json()},
                 {"prefill_tokens", tokens.size()},
                 {"prefill_seconds", prefill.json()}};
    for (const Pass& pass : passes) {
      json["chunks"].push_back({{"tokens", pass.tokens},
                                {"seconds", pass.whole.json()},
                                {"stages", stage_json(*weights, pass, bandwidth)}});
    }
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{}, {}, {} threads; they read {:.1f} GB/s from memory\n", options.model,
             instruction_set, options.threads, bandwidth / 1e9);
  fmt::print("hidden units that are zero: {:.1f} %; times are medians of {} runs\n", 100 * zeros,
             options.runs);
  for (const Pass& pass : passes) print_stages(*weights, pass, bandwidth);
  const double all = static_cast<double>(bytes_per_token(*weights)) / decode.median;
  fmt::print("\n{:<34} {:>10.2f} µs (best {:.2f})\n", "an empty step", 1e6 * step.median,
             1e6 * step.best);
  fmt::print("{:<34} {:>10.2f} µs (best {:.2f})\n", "waking the threads", 1e6 * wake.median,
             1e6 * wake.best);
  fmt::print("{:<34} {:>10.1f} µs (best {:.1f})\n", "a token of 12 tiny layers", 1e6 * fixed.median,
             1e6 * fixed.best);
  fmt::print("decode  {:>8.1f} tok/s (best {:.1f}), {:.1f} GB/s, {:.0f} % of bandwidth\n",
             1 / decode.median, 1 / decode.best, all / 1e9, 100 * all / bandwidth);
  fmt::print("prefill {:>8.1f} tok/s (best {:.1f}) of {} tokens\n",
             static_cast<double>(tokens.size()) / prefill.median,
             static_cast<double>(tokens.size()) / prefill.best, tokens.size());
}

int run(int count, char** arguments) {
  CLI::App program("Measures each stage of the CPU backend");
  Options options;
  program.add_option("MODEL", options.model, "a checkpoint; gander_make_model writes some")
      ->required();
  program.add_option("--threads", options.threads, "threads; default one per core")
      ->check(CLI::Range(1U, usable_cores()));
  program.add_option("--runs", options.runs, "runs that count, after one that does not")
      ->check(CLI::Range(1U, 100000U))
      ->capture_default_str();
  program.add_option("--prefill", options.prefill, "tokens of the prompt")
      ->check(CLI::Range(1U, 100000U))
      ->capture_default_str();
  program.add_flag("--json", options.json, "print one JSON object");
  CLI11_PARSE(program, count, arguments);
  measure(options);
  return 0;
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  try {
    return gander::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_stages: {}\n", error.what());
    return 1;
  }
}
