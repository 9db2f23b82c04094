#include "backend/gpu/tuning.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <utility>

#include "backend/gpu/gpu_backend.h"

namespace gander::gpu {

namespace {

// A stage of all layers is timed this often after once for warming up; the shortest time counts.
constexpr int kTuningRounds = 5;

using Setting = std::function<void(LaunchShapes&)>;

/// One thing to choose: the values it can have, and the dispatches it changes.
struct Choice {
  std::string name;
  std::vector<Setting> settings;
  std::string (*describe)(const LaunchShapes&);
  void (*record)(const LayerDispatcher&, Program&, std::uint32_t layers);
};

// Every layer's dispatch of a stage, so that weights come from memory and not from a cache.
template <auto Stage>
void every_layer(const LayerDispatcher& dispatcher, Program& program, std::uint32_t layers) {
  for (std::uint32_t layer = 0; layer < layers; ++layer) (dispatcher.*Stage)(program, layer);
}

template <auto Field>
std::string describe_rows(const LaunchShapes& shapes) {
  return fmt::format("{} threads, {} rows", (shapes.*Field).threads, (shapes.*Field).rows);
}

// Numbers of threads, each with one to eight passes of its SIMD groups over four rows.
template <auto Field>
std::vector<Setting> row_settings(std::initializer_list<std::uint32_t> thread_counts,
                                  const DeviceInfo& info) {
  std::vector<Setting> settings;
  for (const std::uint32_t threads : thread_counts) {
    if (threads > info.max_threads) continue;
    for (const std::uint32_t passes : {1U, 2U, 4U, 8U}) {
      const RowShape shape = {threads, threads / 32 * 4 * passes};
      settings.push_back([shape](LaunchShapes& shapes) { shapes.*Field = shape; });
    }
  }
  return settings;
}

std::vector<Setting> wkv_settings(const DeviceInfo& info) {
  std::vector<Setting> settings;
  for (const std::uint32_t threads : {128U, 256U, 512U, 1024U}) {
    if (threads > info.max_threads) continue;
    settings.push_back([threads](LaunchShapes& shapes) { shapes.wkv_threads = threads; });
  }
  return settings;
}

std::vector<Setting> value_settings(const Config& config, const DeviceInfo& info) {
  std::vector<Setting> settings;
  for (const std::uint32_t threads : {128U, 256U, 512U}) {
    if (threads > info.max_threads) continue;
    for (std::uint32_t slices = 1; slices <= most_slices(config); slices *= 2) {
      settings.push_back([threads, slices](LaunchShapes& shapes) {
        shapes.value_threads = threads;
        shapes.value_slices = slices;
      });
    }
  }
  return settings;
}

std::vector<Choice> choices(const Config& config, const DeviceInfo& info) {
  return {{"time_mix_in", row_settings<&LaunchShapes::time_mix_in>({128, 256, 512}, info),
           describe_rows<&LaunchShapes::time_mix_in>, every_layer<&LayerDispatcher::time_mix_in>},
          {"wkv", wkv_settings(info),
           [](const LaunchShapes& shapes) { return fmt::format("{} threads", shapes.wkv_threads); },
           every_layer<&LayerDispatcher::wkv>},
          {"time_mix_out", row_settings<&LaunchShapes::time_mix_out>({32, 64, 128, 256}, info),
           describe_rows<&LaunchShapes::time_mix_out>, every_layer<&LayerDispatcher::time_mix_out>},
          {"ffn_key", row_settings<&LaunchShapes::ffn_key>({128, 256, 512}, info),
           describe_rows<&LaunchShapes::ffn_key>, every_layer<&LayerDispatcher::ffn_key>},
          {"ffn_value", value_settings(config, info),
           [](const LaunchShapes& shapes) {
             return fmt::format("{} threads, {} slices", shapes.value_threads, shapes.value_slices);
           },
           every_layer<&LayerDispatcher::ffn_value>},
          {"head", row_settings<&LaunchShapes::head>({128, 256, 512}, info),
           describe_rows<&LaunchShapes::head>,
           [](const LayerDispatcher& dispatcher, Program& program, std::uint32_t /*layers*/) {
             dispatcher.head(program);
           }}};
}

double seconds_of(Device& device, const Program& program) {
  double least = 0;
  for (int round = -1; round < kTuningRounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    device.wait(device.submit(program.dispatches));
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (round == 0 || (round > 0 && seconds < least)) least = seconds;
  }
  return least;
}

// Hidden units as a trained model leaves them after relu²: one in eight is not zero.
void fill_hidden(Device& device, const View& hidden) {
  std::vector<float> values(hidden.size / sizeof(float));
  for (std::size_t i = 0; i < values.size(); i += 8) values[i] = 1.0F;
  device.write(hidden, std::as_bytes(std::span(values)));
}

}  // namespace

std::optional<Tuned> tune(const Weights& weights, Device& device,
                          const std::function<bool(double done)>& progress) {
  const Config& config = weights.config;
  const DeviceInfo& info = device.info();
  const LaunchShapes start = default_shapes(config, info);
  LaunchShapes most = start;  // buffers that fit every candidate
  most.value_slices = std::max(most.value_slices, most_slices(config));
  most.head.rows = 4;
  const MemoryPlan plan = plan_memory(weights, most, info);
  check_memory(plan, info);
  const ModelMemory memory = place_model(weights, plan.weights, most, device);
  upload_weights(weights, memory.weights, device);
  const Recorder recorder(device, config);

  const std::vector<Choice> all = choices(config, info);
  std::size_t count = 0;
  for (const Choice& choice : all) count += choice.settings.size();
  std::size_t done = 0;
  Tuned tuned{start, {}};
  for (const Choice& choice : all) {
    const auto time = [&](const LaunchShapes& shapes) {
      const LayerDispatcher dispatcher(recorder, memory, shapes);
      Program program;
      choice.record(dispatcher, program, config.layers);
      fill_hidden(device, memory.buffers.hidden);
      return seconds_of(device, program);
    };
    LaunchShapes best = tuned.shapes;
    const double before = time(best);
    double least = before;
    for (const Setting& setting : choice.settings) {
      if (!progress(static_cast<double>(done++) / static_cast<double>(count))) return std::nullopt;
      LaunchShapes candidate = tuned.shapes;
      setting(candidate);
      const double seconds = time(candidate);
      // A little faster is noise: the default stays.
      if (seconds < 0.98 * least) {
        least = seconds;
        best = candidate;
      }
    }
    tuned.stages.push_back(
        {choice.name, choice.describe(tuned.shapes), choice.describe(best), before, least});
    tuned.shapes = best;
  }
  return tuned;
}

}  // namespace gander::gpu
