#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include "apps/gander/bench_tokens.h"
#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "base/bandwidth.h"
#include "base/error.h"
#include "base/median.h"
#include "base/memory.h"

namespace gander {
namespace {

struct BenchOptions {
  ModelOptions model;
  std::uint32_t prefill = 512;
  std::uint32_t decode = 128;
  std::uint32_t runs = 5;
  bool json = false;
};

struct Speeds {
  std::vector<double> values;  ///< tokens per second

  double least() const { return *std::ranges::min_element(values); }
  double most() const { return *std::ranges::max_element(values); }
  double median() const { return gander::median(values); }
};

template <typename Work>
double seconds_of(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Results {
  Speeds prefill, decode;
};

Results measure(Backend& backend, const std::vector<TokenId>& tokens, const BenchOptions& options) {
  std::vector<float> logits(backend.config().vocab_size);
  const auto likeliest = [&] {
    return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  Results results;
  Progress progress("measuring", options.runs + 1);
  for (std::uint32_t run = 0; run <= options.runs; ++run) {  // the first is not counted
    progress.update(run);
    backend.reset();
    const double prefill = seconds_of([&] { backend.forward(tokens, Logits::Last, logits); });
    const double decode = seconds_of([&] {
      for (std::uint32_t i = 0; i < options.decode; ++i) {
        const TokenId token = likeliest();
        backend.forward({&token, 1}, Logits::Last, logits);
      }
    });
    if (run == 0) continue;
    results.prefill.values.push_back(options.prefill / prefill);
    results.decode.values.push_back(options.decode / decode);
  }
  return results;
}

Json speeds_json(const Speeds& speeds, std::uint32_t tokens) {
  return {{"tokens", tokens},
          {"tokens_per_second",
           {{"median", speeds.median()}, {"min", speeds.least()}, {"max", speeds.most()}}}};
}

void print_speeds(std::string_view name, const Speeds& speeds, std::uint32_t tokens) {
  print(fmt::format("{:<8} {:>6}   {:>10.1f} {:>10.1f} {:>10.1f}\n", name, tokens, speeds.median(),
                    speeds.least(), speeds.most()));
}

int bench(const BenchOptions& options) {
  const Model model = open_model(options.model);
  const std::unique_ptr<Backend> backend = create_backend(model, options.model);
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  const unsigned threads =
      options.model.threads == 0 ? cores : std::min(options.model.threads, cores);
  const Results results = measure(*backend, bench_tokens(model, options.prefill), options);
  BandwidthProbe probe(threads);
  const double bandwidth = probe.measure();
  const std::uint64_t token_bytes = bytes_per_token(*model.weights);
  const std::uint64_t cache = last_level_cache_bytes();
  const bool in_cache = token_bytes <= cache;
  const double share = results.decode.median() * static_cast<double>(token_bytes) / bandwidth;

  if (options.json) {
    const Json json = {{"model", model.path},
                       {"backend", backend->description()},
                       {"runs", options.runs},
                       {"prefill", speeds_json(results.prefill, options.prefill)},
                       {"decode", speeds_json(results.decode, options.decode)},
                       {"bytes_per_token", token_bytes},
                       {"bandwidth",
                        {{"bytes_per_second", bandwidth},
                         {"threads", threads},
                         {"buffer_bytes", probe.buffer_bytes()}}},
                       {"share_of_bandwidth", share},
                       {"cache_bytes", cache},
                       {"fits_in_cache", in_cache}};
    print(json_text(json) + "\n");
    return 0;
  }
  print(fmt::format("{} on {}, {} runs\n\n", model.path, backend->description(), options.runs));
  print(fmt::format("{:<8} {:>6}   {:>10} {:>10} {:>10}\n", "tok/s", "tokens", "median", "min",
                    "max"));
  print_speeds("prefill", results.prefill, options.prefill);
  print_speeds("decode", results.decode, options.decode);
  print(fmt::format(
      "\ndecode reads {} of weights a token: {:.1f} GB/s, {:.0f} % of the {:.1f} GB/s that {} "
      "thread{} read from memory\n",
      bytes_text(token_bytes), results.decode.median() * static_cast<double>(token_bytes) / 1e9,
      100 * share, bandwidth / 1e9, threads, threads == 1 ? "" : "s"));
  if (in_cache) {
    print(
        fmt::format("note: the weights fit in the last-level cache ({}), so memory bandwidth is "
                    "no limit here and the share may exceed 100 %\n",
                    bytes_text(cache)));
  }
  return 0;
}

}  // namespace

void add_bench_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = program.add_subcommand("bench", "Measure speed and use of memory bandwidth");
  add_model_argument(*command, options->model);
  add_count(*command, "--prefill", options->prefill, "tokens of the prompt");
  add_count(*command, "--decode", options->decode, "tokens generated one by one");
  add_count(*command, "--runs", options->runs, "runs that count, after one that does not");
  command->add_flag("--json", options->json, "print one JSON object");
  add_model_options(*command, options->model);
  command->footer(
      "Decoding is greedy. The bandwidth is that of reading a buffer of at least four times the\n"
      "last-level cache with as many threads.\n\n"
      "Examples:\n"
      "  gander bench\n"
      "  gander bench model.gguf --threads 1 --json\n"
      "  gander bench batch --help\n"
      "  gander bench sync --help\n"
      "  gander bench roofline --help\n"
      "  gander bench serve --help");
  add_bench_batch_command(*command, action);
  add_bench_sync_command(*command, action);
  add_bench_roofline_command(*command, action);
  add_bench_serve_command(*command, action);
  for (CLI::App* part : command->get_subcommands({})) part->group("Commands");
  command->callback([&action, options, command] {
    const std::vector<CLI::App*> parts = command->get_subcommands();
    if (parts.empty()) {
      action = [options] { return bench(*options); };
    } else if (std::ranges::any_of(command->get_options(),
                                   [](const CLI::Option* option) { return option->count() > 0; })) {
      fail("bench {0}: its options come after the word {0}", parts.front()->get_name());
    }
  });
}

}  // namespace gander
