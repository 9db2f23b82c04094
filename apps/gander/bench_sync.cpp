#include <fmt/format.h>

#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/gpu_bench.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "backend/gpu/measure/sync.h"

namespace gander {
namespace {

using gpu::SyncCost;
using gpu::SyncMode;

struct BenchSyncOptions {
  GpuBenchOptions common;
  std::uint32_t tokens = 64;
  std::uint32_t runs = 5;
};

std::string_view mode_name(SyncMode mode) {
  switch (mode) {
    case SyncMode::Op:
      return "op";
    case SyncMode::Layer:
      return "layer";
    case SyncMode::Token:
      return "token";
    case SyncMode::Async:
      return "async";
  }
  return "";
}

// What a person calls a way.
std::string way_name(const SyncCost& cost) {
  return cost.mode == SyncMode::Async
             ? fmt::format("{}, queued ahead", cost.kernels)
             : fmt::format("{}, each {}", cost.kernels, mode_name(cost.mode));
}

struct SyncResults {
  std::string backend;  // for people
  gpu::DeviceInfo device;
  std::vector<SyncCost> costs;
};

// One after the other: each way of keeping the weights has the device's memory for itself.
SyncResults measure_ways(const Model& model, const BenchSyncOptions& options,
                         const std::string& name) {
  SyncResults results;
  for (const bool token_kernel : {false, true}) {
    if (token_kernel && !gpu::PersistentToken::supports(*model.weights, results.device)) break;
    const auto backend = open_gpu_backend(model, options.common, name, token_kernel);
    results.device = backend->device().info();
    results.backend = backend->description();
    constexpr std::uint64_t kSteps = 1000;
    Progress progress(token_kernel ? "token kernel" : "measuring", kSteps);
    const auto costs = gpu::measure_sync(*backend, options.tokens, options.runs, [&](double done) {
      progress.update(static_cast<std::uint64_t>(done * kSteps));
    });
    results.costs.insert(results.costs.end(), costs.begin(), costs.end());
  }
  return results;
}

Json sync_json(const Model& model, const SyncResults& results, const BenchSyncOptions& options) {
  Json ways = Json::array();
  for (const SyncCost& cost : results.costs) {
    ways.push_back({{"kernels", cost.kernels},
                    {"sync", mode_name(cost.mode)},
                    {"tokens_per_second", 1 / cost.seconds},
                    {"seconds", cost.seconds},
                    {"waiting_seconds", cost.waiting},
                    {"submissions", cost.submissions},
                    {"waits", cost.waits},
                    {"dispatches", cost.dispatches}});
  }
  return {{"model", model.path},
          {"backend", results.backend},
          {"emulated", results.device.emulated},
          {"tokens", options.tokens},
          {"runs", options.runs},
          {"ways", ways}};
}

void print_sync(const Model& model, const SyncResults& results, const BenchSyncOptions& options) {
  print(
      fmt::format("{} on {}: {} tokens generated on it, medians of {} runs; counts are those of "
                  "a token\n\n",
                  printable_line(model.path), results.backend, options.tokens, options.runs));
  print(fmt::format("{:<13} {:<14} {:>9} {:>10} {:>11} {:>9} {:>11} {:>13}\n", "kernels",
                    "waits for", "tok/s", "ms", "submissions", "waits", "dispatches",
                    "waiting, ms"));
  std::string_view last;
  for (const SyncCost& cost : results.costs) {
    if (!last.empty() && cost.kernels != last) print("\n");
    last = cost.kernels;
    const bool ahead = cost.mode == SyncMode::Async;
    print(fmt::format("{:<13} {:<14} {:>9.1f} {:>10.3f} {:>11.2f} {:>9.3f} {:>11.1f} {:>13}\n",
                      cost.kernels,
                      ahead ? fmt::format("{} tokens", gpu::kSyncBlock)
                            : fmt::format("each {}", mode_name(cost.mode)),
                      1 / cost.seconds, 1e3 * cost.seconds, cost.submissions, cost.waits,
                      cost.dispatches, ahead ? "" : fmt::format("{:.3f}", 1e3 * cost.waiting)));
  }
  const SyncCost& slowest = results.costs.front();
  const SyncCost& fastest = results.costs.back();
  print(fmt::format("\n{}: {:.3f} ms a token, {:.0f} % of them waiting; {}: {:.3f} ms\n",
                    way_name(slowest), 1e3 * slowest.seconds,
                    100 * slowest.waiting / slowest.seconds, way_name(fastest),
                    1e3 * fastest.seconds));
  print(emulation_note(results.device));
}

BarChart sync_chart(const Model& model, const SyncResults& results) {
  BarChart chart;
  chart.title = "What waiting for the GPU costs";
  chart.subtitle = chart_subtitle(model, results.backend, results.device);
  chart.axis = "milliseconds a token";
  chart.value_name = "work, queued ahead";
  chart.rest_name = "waiting";
  std::string_view last;
  for (const SyncCost& cost : results.costs) {
    chart.bars.push_back({.label = way_name(cost),
                          .value = 1e3 * (cost.seconds - cost.waiting),
                          .rest = 1e3 * cost.waiting,
                          .note = fmt::format("{:.0f} tok/s, {:.4g} waits, {:.0f} dispatches",
                                              1 / cost.seconds, cost.waits, cost.dispatches),
                          .begins_group = !last.empty() && cost.kernels != last});
    last = cost.kernels;
  }
  return chart;
}

int bench_sync(const BenchSyncOptions& options) {
  const std::string name = gpu_backend_name(options.common, "bench sync");
  SvgFile svg(options.common.svg);
  const Model model = open_model(options.common.model);
  const SyncResults results = measure_ways(model, options, name);
  svg.write(sync_chart(model, results));
  if (options.common.json) {
    print(json_text(sync_json(model, results, options)) + "\n");
  } else {
    print_sync(model, results, options);
  }
  return 0;
}

}  // namespace

void add_bench_sync_command(CLI::App& bench, Action& action) {
  auto options = std::make_shared<BenchSyncOptions>();
  CLI::App* command =
      bench.add_subcommand("sync", "Measure what it costs to wait for a GPU, and how often");
  add_count(*command, "--tokens", options->tokens, "tokens of a run");
  add_count(*command, "--runs", options->runs,
            "runs of each way that count, after one that does not");
  add_gpu_bench_options(*command, options->common);
  command->footer(
      "Generates the same text with the list of small kernels, with the five stages a layer, and\n"
      "with the token kernel where the GPU runs it; each waited for after every dispatch, layer "
      "or\n"
      "token, and queued ahead. The time over that of the same kernels queued ahead is waiting.\n\n"
      "Examples:\n"
      "  gander bench sync model.gguf --svg sync.svg\n"
      "  gander bench sync --backend metal --json");
  command->callback([&action, options] { action = [options] { return bench_sync(*options); }; });
}

}  // namespace gander
