#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/gpu_bench.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "backend/gpu/measure/bandwidth.h"
#include "backend/gpu/measure/stages.h"
#include "backend/gpu/open_device.h"
#include "base/error.h"
#include "base/memory.h"

namespace gander {
namespace {

using gpu::StageCost;

struct RooflineOptions {
  GpuBenchOptions common;
  bool stages = false;
};

struct Roofline {
  std::string backend;  // for people
  gpu::DeviceInfo device;
  gpu::ReadBandwidth bandwidth;
  gpu::StageCosts costs;
};

// The emulated token kernel has no clock.
double per_second(double amount, double seconds) {
  return seconds > 0 ? amount / seconds : 0;
}

double rate(const StageCost& stage) {
  return per_second(stage.moved_bytes, stage.seconds);
}

StageCost sum_of(const std::vector<StageCost>& stages) {
  StageCost sum = {.name = "sum"};
  for (const StageCost& stage : stages) {
    sum.launches += stage.launches;
    sum.seconds += stage.seconds;
    sum.bytes += stage.bytes;
    sum.moved_bytes += stage.moved_bytes;
    sum.operations += stage.operations;
  }
  return sum;
}

// The bandwidth first, on a device that is closed again: the model may need all of its memory.
Roofline measure_roofline(const Model& model, const RooflineOptions& options,
                          const std::string& name) {
  Roofline roofline;
  {
    const auto device = open_device(name, backend_options(options.common.model));
    roofline.device = device->info();
    roofline.bandwidth = gpu::measure_read_bandwidth(*device);
  }
  const auto backend = open_gpu_backend(model, options.common, name, !options.stages);
  roofline.backend = backend->description();
  roofline.costs = gpu::measure_stages(*backend);
  return roofline;
}

Json stage_json(const StageCost& stage, double bandwidth) {
  return {{"name", stage.name},
          {"launches", stage.launches},
          {"seconds", stage.seconds},
          {"bytes", stage.bytes},
          {"moved_bytes", stage.moved_bytes},
          {"bytes_per_second", rate(stage)},
          {"share_of_bandwidth", rate(stage) / bandwidth},
          {"operations", stage.operations},
          {"operations_per_second", per_second(stage.operations, stage.seconds)}};
}

Json roofline_json(const Model& model, const Roofline& roofline) {
  const double bandwidth = roofline.bandwidth.bytes_per_second;
  Json stages = Json::array();
  for (const StageCost& stage : roofline.costs.stages) {
    stages.push_back(stage_json(stage, bandwidth));
  }
  return {{"model", model.path},
          {"backend", roofline.backend},
          {"emulated", roofline.device.emulated},
          {"kernels", roofline.costs.traced ? "token kernel" : "stages"},
          {"bandwidth",
           {{"bytes_per_second", bandwidth}, {"buffer_bytes", roofline.bandwidth.buffer_bytes}}},
          {"active_hidden_units", roofline.costs.active},
          {"stages", stages},
          {"sum", stage_json(sum_of(roofline.costs.stages), bandwidth)}};
}

void print_stage(const StageCost& stage, double bandwidth) {
  print(fmt::format("{:<15} {:>8} {:>10} {:>10} {:>10.1f} {:>9.1f} {:>6.0f} % {:>9.1f} {:>8.2f}\n",
                    stage.name, stage.launches, bytes_text(stage.bytes),
                    bytes_text(static_cast<std::uint64_t>(stage.moved_bytes)), 1e6 * stage.seconds,
                    rate(stage) / 1e9, 100 * rate(stage) / bandwidth,
                    per_second(stage.operations, stage.seconds) / 1e9,
                    stage.operations / stage.moved_bytes));
}

void print_roofline(const Model& model, const Roofline& roofline) {
  const gpu::StageCosts& costs = roofline.costs;
  const double bandwidth = roofline.bandwidth.bytes_per_second;
  print(fmt::format("{} on {}: {}\n\n", printable_line(model.path), roofline.backend,
                    costs.traced ? "stages of the token kernel, by its own clock"
                                 : "stages of all layers, each launched alone"));
  print(fmt::format("{:<15} {:>8} {:>10} {:>10} {:>10} {:>9} {:>8} {:>9} {:>8}\n", "stage",
                    "launches", "bytes", "moved", "µs", "GB/s", "share", "Gop/s", "op/byte"));
  for (const StageCost& stage : costs.stages) print_stage(stage, bandwidth);
  print_stage(sum_of(costs.stages), bandwidth);
  print(fmt::format(
      "\na kernel that does nothing else reads {:.1f} GB/s ({}); the share is of that\n"
      "moved: without the hidden units that stage E skips, {:.1f} % were not zero in the last "
      "layer\n",
      bandwidth / 1e9, bytes_text(roofline.bandwidth.buffer_bytes), 100 * costs.active));
  const bool cached = std::ranges::any_of(
      costs.stages, [&](const StageCost& stage) { return rate(stage) > bandwidth; });
  if (cached && !roofline.device.emulated) {
    print("note: shares of more than 100 % are bytes that came from a cache\n");
  }
  print(emulation_note(roofline.device));
}

BarChart roofline_chart(const Model& model, const Roofline& roofline) {
  const double bandwidth = roofline.bandwidth.bytes_per_second;
  BarChart chart;
  chart.title = "Bytes a second of each stage";
  chart.subtitle = chart_subtitle(model, roofline.backend, roofline.device);
  chart.axis = "GB/s";
  chart.limit = bandwidth / 1e9;
  chart.limit_name = fmt::format("read bandwidth, measured: {:.0f} GB/s", bandwidth / 1e9);
  for (const StageCost& stage : roofline.costs.stages) {
    chart.bars.push_back(
        {.label = stage.name,
         .value = rate(stage) / 1e9,
         .note = fmt::format("{:.0f} %, {:.1f} µs, {}", 100 * rate(stage) / bandwidth,
                             1e6 * stage.seconds,
                             bytes_text(static_cast<std::uint64_t>(stage.moved_bytes)))});
  }
  return chart;
}

int bench_roofline(const RooflineOptions& options) {
  if (options.common.model.backend == "cpu") {
    fail("bench roofline needs a GPU backend: gander bench shows the CPU's share of its bandwidth");
  }
  const std::string name = gpu_backend_name(options.common, "bench roofline");
  SvgFile svg(options.common.svg);
  const Model model = open_model(options.common.model);
  const Roofline roofline = measure_roofline(model, options, name);
  svg.write(roofline_chart(model, roofline));
  if (options.common.json) {
    print(json_text(roofline_json(model, roofline)) + "\n");
  } else {
    print_roofline(model, roofline);
  }
  return 0;
}

}  // namespace

void add_bench_roofline_command(CLI::App& bench, Action& action) {
  auto options = std::make_shared<RooflineOptions>();
  CLI::App* command = bench.add_subcommand(
      "roofline", "Measure each stage on a GPU against the bandwidth of its memory");
  command->add_flag("--stages", options->stages,
                    "stage by stage, also where the GPU runs a token as one kernel");
  add_gpu_bench_options(*command, options->common);
  command->footer(
      "Bytes are what a stage reads and writes in all layers of a token, each byte once. The\n"
      "bandwidth is that of a kernel which only reads, on a buffer larger than any cache. A stage\n"
      "launched alone reads what fits in a cache from there: shares of small models are too high.\n"
      "For the CPU, gander bench shows the share of its bandwidth.\n\n"
      "Examples:\n"
      "  gander bench roofline model.gguf --svg roofline.svg\n"
      "  gander bench roofline --backend metal --json");
  command->callback(
      [&action, options] { action = [options] { return bench_roofline(*options); }; });
}

}  // namespace gander
