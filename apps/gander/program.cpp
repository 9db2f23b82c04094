#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/prediction.h"
#include "backend/gpu/recording_device.h"
#include "base/memory.h"

namespace gander {
namespace {

using gpu::Dispatch;

struct ProgramOptions {
  ModelOptions model;
  bool unfused = false;
  bool predict = false;
  bool json = false;
};

struct Recording {
  gpu::DeviceInfo info;
  gpu::MemoryPlan plan;
  gpu::ModelMemory memory;
  gpu::Program program;
};

Recording record(const Weights& weights, bool unfused) {
  Recording recording;
  recording.info = gpu::apple_gpu();
  gpu::RecordingDevice device(recording.info);
  const gpu::LaunchShapes shapes = gpu::default_shapes(weights.config, recording.info);
  recording.plan = gpu::plan_memory(weights, shapes, recording.info);
  recording.memory = gpu::place_model(weights, recording.plan.weights, shapes, device);
  const gpu::View& token = recording.memory.buffers.token;
  if (unfused) {
    recording.plan.activation_bytes += gpu::unfused_bytes(weights.config, recording.info);
    recording.program = gpu::record_unfused_token(weights.config, recording.memory,
                                                  gpu::make_unfused_buffers(weights.config, device),
                                                  shapes, device, token);
  } else {
    recording.program = gpu::record_token(weights.config, recording.memory, shapes, device, token);
  }
  return recording;
}

Json dispatch_json(const Dispatch& dispatch, const Config& config) {
  Json json = {{"kernel", dispatch.kernel}};
  json["layer"] = dispatch.layer < config.layers ? Json(dispatch.layer) : Json(nullptr);
  json["grid"] = dispatch.groups;
  json["threads"] = dispatch.threads;
  json["group_memory"] = dispatch.group_memory;
  json["bytes_read"] = dispatch.bytes_read();
  json["bytes_written"] = dispatch.bytes_written();
  json["barrier"] = dispatch.barrier;
  return json;
}

Json recording_json(const Model& model, const Recording& recording, bool unfused) {
  const Config& config = model.config();
  Json dispatches = Json::array();
  for (const Dispatch& dispatch : recording.program.dispatches) {
    dispatches.push_back(dispatch_json(dispatch, config));
  }
  return {{"model", model.path},
          {"backend", "metal"},
          {"recording", unfused ? "unfused" : "fused"},
          {"layers", config.layers},
          {"bytes_read", recording.program.bytes_read()},
          {"bytes_written", recording.program.bytes_written()},
          {"least_bytes", gpu::least_bytes_read(*model.weights)},
          {"memory",
           {{"total", recording.plan.total()},
            {"mapped_weights", recording.plan.weights.wrapped_bytes},
            {"copied_weights", recording.plan.weights.copied_bytes},
            {"transposed_ffn_value", recording.plan.weights.value_bytes},
            {"state", recording.plan.state_bytes},
            {"activations", recording.plan.activation_bytes}}},
          {"dispatches", dispatches}};
}

void print_row(const Dispatch& d) {
  print(fmt::format("  {:<16} {:>6} × {:<3} {:>7} {:>11} {:>11}\n", d.kernel, d.groups[0],
                    d.groups[1], d.threads, bytes_text(d.bytes_read()),
                    bytes_text(d.bytes_written())));
}

// Layers from 1 on are alike: layer 0 and one of them are shown.
void print_recording(const Model& model, const Recording& recording) {
  const Config& config = model.config();
  const std::vector<Dispatch>& all = recording.program.dispatches;
  print(styled(Stream::Output, Style::Bold, printable_line(model.path)) +
        fmt::format(" recorded for {}\n\n", recording.info.name));
  print(fmt::format("  {:<16} {:>12} {:>7} {:>11} {:>11}\n", "kernel", "groups", "threads", "reads",
                    "writes"));
  std::uint32_t shown = config.layers;  // the layer whose heading was printed last
  for (const Dispatch& dispatch : all) {
    if (dispatch.layer != shown && dispatch.layer < 2) {
      print(dispatch.layer == 0  ? "layer 0\n"
            : config.layers == 2 ? "layer 1\n"
                                 : fmt::format("layers 1 to {}, each\n", config.layers - 1));
    }
    if (dispatch.layer != shown && dispatch.layer == config.layers) print("after the layers\n");
    shown = dispatch.layer;
    if (dispatch.layer < 2 || dispatch.layer == config.layers) print_row(dispatch);
  }
  const auto barriers = std::ranges::count_if(all, [](const Dispatch& d) { return d.barrier; });
  const std::uint64_t read = recording.program.bytes_read();
  const std::uint64_t least = gpu::least_bytes_read(*model.weights);
  print(fmt::format(
      "\na token: {} dispatches, {} barriers, one submission; reads {} ({:+.1f} % against weights "
      "and state once), writes {}\n",
      all.size(), barriers, bytes_text(read),
      100 * (static_cast<double>(read) / static_cast<double>(least) - 1),
      bytes_text(recording.program.bytes_written())));
  const gpu::WeightPlan& weights = recording.plan.weights;
  print(fmt::format(
      "memory:  {}: weights used in the mapped file {}, copied {}, ffn.value by hidden unit {}, "
      "state {}, activations {}\n",
      bytes_text(recording.plan.total()), bytes_text(weights.wrapped_bytes),
      bytes_text(weights.copied_bytes), bytes_text(weights.value_bytes),
      bytes_text(recording.plan.state_bytes), bytes_text(recording.plan.activation_bytes)));
}

void print_predictions(const Recording& recording) {
  print(
      "\npredicted, never measured: bytes at 80 % of the nominal bandwidth, 1.8 µs a dispatch; "
      "sparse: 13 % of the hidden units are not zero\n\n");
  print(
      fmt::format("  {:<10} {:>6} {:>12} {:>13}\n", "chip", "GB/s", "dense tok/s", "sparse tok/s"));
  for (const gpu::AppleChip& chip : gpu::apple_chips()) {
    print(fmt::format("  {:<10} {:>6.0f} {:>12.0f} {:>13.0f}\n", chip.name,
                      chip.bytes_per_second / 1e9,
                      gpu::predicted_tokens_per_second(recording.program, chip, 1.0),
                      gpu::predicted_tokens_per_second(recording.program, chip, 0.13)));
  }
}

int show_program(const ProgramOptions& options) {
  const Model model = open_model(options.model);
  const Recording recording = record(*model.weights, options.unfused);
  if (options.json) {
    Json json = recording_json(model, recording, options.unfused);
    if (options.predict) {
      Json predictions = Json::object();
      for (const gpu::AppleChip& chip : gpu::apple_chips()) {
        predictions[std::string(chip.name)] = {
            {"dense", gpu::predicted_tokens_per_second(recording.program, chip, 1.0)},
            {"sparse", gpu::predicted_tokens_per_second(recording.program, chip, 0.13)}};
      }
      json["predicted_tokens_per_second"] = predictions;
    }
    print(json_text(json) + "\n");
    return 0;
  }
  print_recording(model, recording);
  if (options.predict) print_predictions(recording);
  return 0;
}

}  // namespace

void add_program_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<ProgramOptions>();
  CLI::App* command =
      program.add_subcommand("program", "Show what a GPU does for a token of a model");
  add_model_argument(*command, options->model);
  command->add_flag("--unfused", options->unfused,
                    "the small kernels that check the fused stages, not the stages");
  command->add_flag("--predict", options->predict,
                    "what Apple's chips should reach, from bytes and dispatches");
  command->add_flag("--json", options->json, "print one JSON object, with every dispatch");
  add_vocabulary_option(*command, options->model);
  command->footer(
      "Nothing is loaded and no GPU is needed: the program is recorded for what every Apple GPU\n"
      "since the M1 allows.\n\n"
      "Examples:\n"
      "  gander program model.gguf\n"
      "  gander program model.gguf --predict\n"
      "  gander program --unfused --json");
  command->callback([&action, options] { action = [options] { return show_program(*options); }; });
}

}  // namespace gander
