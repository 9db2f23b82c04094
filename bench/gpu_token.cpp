// gander_gpu_token: what a token costs on an NVIDIA GPU, each stage of it, a first token, and the
// memory that loading takes, for models of released shapes with random weights. usage:
// gander_gpu_token [--stages] [--sampling] [--check] [SHAPE:TYPE[:ZEROS]]...
//   --stages    the kernels of Metal's text too, stage by stage
//   --sampling  the kernel that chooses tokens, for several settings
//   --check     logits against those of the kernels of Metal's text
// By default 0.4b:q4_k:0.87, ZEROS being the share of hidden units that relu² leaves zero.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>

#include "backend/gpu/cuda/cuda_device.h"
#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/measure/stages.h"
#include "base/error.h"
#include "bench/process_memory.h"
#include "bench/synthetic_file.h"
#include "model/weights.h"

namespace gander {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;
constexpr std::size_t kTokens = 128;

struct Options {
  bool stages = false, sampling = false, check = false;
};

/// Best of some runs, in seconds: what the device can do when nothing else disturbs it.
template <typename Work>
double best_seconds(const Work& work) {
  double best = 1e9;
  for (int run = 0; run <= kRuns; ++run) {
    const Clock::time_point begin = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (run > 0) best = std::min(best, seconds);  // the first is a warm-up
  }
  return best;
}

/// What loading takes of the CPU's memory.
class LoadingMemory {
 public:
  LoadingMemory() : anonymous_before_(memory_status("RssAnon")) {
    forgotten_ = forget_peak_memory();
    before_ = memory_status("VmHWM");
  }
  /// The kernel keeps no peak of this part: to be called after every piece.
  void look() { anonymous_ = std::max(anonymous_, memory_status("RssAnon")); }
  void report() const {
    fmt::print(
        "  loading: at most {:.0f} MB resident{} (before {:.0f}), of these {:.0f} MB anonymous "
        "(before {:.0f}); the others are pages of the model's file\n",
        megabytes(memory_status("VmHWM")), forgotten_ ? "" : ", making the model included",
        megabytes(before_), megabytes(anonymous_), megabytes(anonymous_before_));
  }

 private:
  static double megabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

  std::uint64_t before_ = 0, anonymous_before_ = 0, anonymous_ = 0;
  bool forgotten_ = false;
};

std::shared_ptr<const Weights> random_model(const std::string& model) {
  const std::size_t first = std::min(model.find(':'), model.size());
  const std::size_t second = std::min(model.find(':', first + 1), model.size());
  const auto shapes = synthetic_shapes();
  const auto named = std::ranges::find(shapes, model.substr(0, first), &NamedShape::name);
  const std::optional<DataType> large =
      first == model.size() ? std::nullopt
                            : data_type_from_name(model.substr(first + 1, second - first - 1));
  if (named == shapes.end() || !large) fail("{}: SHAPE:TYPE[:ZEROS] is wanted", model);
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("gander-{}.gguf", ::getpid())).string();
  SyntheticOptions options;
  options.config = named->config;
  options.large = *large;
  if (second < model.size()) options.zeros = std::stod(model.substr(second + 1));
  write_synthetic_file(path, options);
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(path)));
  std::filesystem::remove(path);  // stays mapped
  return weights;
}

void report(std::string_view what, std::size_t count, double seconds, std::uint64_t bytes) {
  fmt::print("  {:<28} {:>5} × {:>9.2f} µs {:>8.0f} GB/s\n", what, count,
             seconds / static_cast<double>(count) * 1e6,
             static_cast<double>(bytes) / seconds / 1e9);
}

/// Each stage of all layers. Bytes are those of every weight: stage E skips what the hidden units'
/// zeros allow.
void report_stages(gpu::GpuBackend& backend) {
  const gpu::StageCosts costs = gpu::measure_stages(backend);
  for (const gpu::StageCost& stage : costs.stages) {
    report(stage.name, stage.launches, stage.seconds, stage.bytes);
  }
}

/// The dispatch that chooses a token, from the logits the model left.
void measure_sampling(gpu::GpuBackend& backend) {
  const auto& generator = dynamic_cast<gpu::GpuGenerator&>(*backend.generator());
  const gpu::Dispatch& sample = generator.token_program().dispatches.back();
  const std::vector<gpu::Dispatch> many(100, sample);
  const std::vector<std::pair<const char*, SamplerSettings>> all = {
      {"sample, greedy", {.temperature = 0.0F}},
      {"sample, temperature 1", {}},
      {"sample, top-p 0.5", {.top_p = 0.5F}},
      {"sample, temp. 0.2, top-p 0.9", {.temperature = 0.2F, .top_p = 0.9F}},  // as if trained
      {"sample, temp. 2, top-p 0.9", {.temperature = 2.0F, .top_p = 0.9F}},
      {"sample, top-k 40, top-p 0.5", {.top_k = 40, .top_p = 0.5F}},
      {"sample, penalties, top-p 0.5",
       {.top_p = 0.5F, .presence_penalty = 0.4F, .frequency_penalty = 0.4F}},
      {"sample, min-p 0.05", {.min_p = 0.05F}}};
  for (const auto& [name, settings] : all) {
    start_fresh(*backend.generator(), settings, backend.config().vocab_size);
    const double seconds =
        best_seconds([&] { backend.device().wait(backend.device().submit(many)); });
    report(name, many.size(), seconds, sample.bytes_read() * many.size());
  }
}

/// A text of tokens in blocks of 8, each the most probable one, all on the device.
double generate_seconds(gpu::GpuBackend& backend, std::vector<float>& logits) {
  Generator& generator = *backend.generator();
  return best_seconds([&] {
    const TokenId first = 1;
    backend.forward({&first, 1}, Logits::Last, logits);
    start_fresh(generator, {.temperature = 0.0F}, backend.config().vocab_size);
    std::array<TokenId, 8> tokens;
    generator.queue(tokens.size());
    for (std::size_t done = tokens.size(); done <= kTokens; done += tokens.size()) {
      if (done < kTokens) generator.queue(tokens.size());
      generator.collect(tokens);
    }
    generator.stop();
  });
}

/// From a prompt of 16 tokens to the first one after it, in a new sequence.
void measure_first_token(gpu::GpuBackend& backend, std::span<const TokenId> tokens,
                         std::vector<float>& logits) {
  const auto prompt = tokens.first(16);
  Generator& generator = *backend.generator();
  double reset = 1e9, first = 1e9;
  for (int run = 0; run <= kRuns; ++run) {
    const Clock::time_point begin = Clock::now();
    backend.reset();
    const Clock::time_point is_reset = Clock::now();
    backend.forward(prompt, Logits::Last, logits);
    start_fresh(generator, {.temperature = 0.0F}, backend.config().vocab_size);
    TokenId token = 0;
    generator.queue(1);
    generator.collect({&token, 1});
    const Clock::time_point end = Clock::now();
    generator.stop();
    if (run == 0) continue;  // a warm-up
    reset = std::min(reset, std::chrono::duration<double>(is_reset - begin).count());
    first = std::min(first, std::chrono::duration<double>(end - is_reset).count());
  }
  fmt::print(
      "  first token after a prompt of {}: {:.2f} ms; before it, a state of zeros: {:.2f} ms\n",
      prompt.size(), first * 1e3, reset * 1e3);
}

void check(const std::shared_ptr<const Weights>& weights, gpu::GpuBackend& backend,
           std::span<const TokenId> tokens) {
  gpu::GpuBackend stages(weights, gpu::open_cuda_device(), {.persistent = false});
  std::vector<float> expected(weights->config.vocab_size), logits(expected.size());
  stages.reset();
  backend.reset();
  stages.forward(tokens, Logits::Last, expected);
  backend.forward(tokens, Logits::Last, logits);
  float largest = 0, difference = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - logits[i]));
    if (std::isnan(logits[i])) difference = INFINITY;
  }
  fmt::print("  against stage by stage, {} tokens: {:.1e} of the largest logit {:.2f}\n",
             tokens.size(), difference / largest, largest);
}

void measure(const std::string& model, const Options& options) {
  Clock::time_point begin = Clock::now();
  const auto seconds_since = [&] {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    begin = Clock::now();
    return seconds;
  };
  const auto weights = random_model(model);
  const double made = seconds_since();
  LoadingMemory memory;
  gpu::GpuBackend backend(
      weights, gpu::open_cuda_device(),
      {.batch_rows = 512, .progress = [&](std::uint64_t, std::uint64_t) { memory.look(); }});
  const double loaded = seconds_since();
  const std::uint64_t bytes = bytes_per_token(*weights);
  fmt::print("{} on {}: {} dispatches a token, {:.0f} MB; made in {:.1f} s, loaded in {:.1f} s\n",
             model, backend.description(), backend.token_program().dispatches.size(),
             static_cast<double>(bytes) / 1e6, made, loaded);
  memory.report();
  std::vector<TokenId> tokens(kTokens);
  for (std::size_t i = 0; i < kTokens; ++i) {
    tokens[i] = static_cast<TokenId>((i + 1) * 7919 % weights->config.vocab_size);
  }
  std::vector<float> logits(weights->config.vocab_size);
  if (options.check) check(weights, backend, std::span(tokens).first(8));
  const double generated = generate_seconds(backend, logits);
  report("tokens, chosen on the device", kTokens, generated, bytes * kTokens);
  fmt::print("  {:.0f} tok/s\n", static_cast<double>(kTokens) / generated);
  const double ahead = best_seconds([&] { backend.forward(tokens, Logits::Last, logits); });
  report("prompt", kTokens, ahead, bytes * kTokens);
  const double waiting = best_seconds([&] {
    for (const TokenId& token : tokens) backend.forward({&token, 1}, Logits::Last, logits);
  });
  report("tokens, logits read", kTokens, waiting, bytes * kTokens);
  measure_first_token(backend, tokens, logits);
  if (backend.persistent() != nullptr) report_stages(backend);
  if (options.stages) {
    gpu::GpuBackend stages(weights, gpu::open_cuda_device(), {.persistent = false});
    report("stage by stage", kTokens, generate_seconds(stages, logits), bytes * kTokens);
    report_stages(stages);
  }
  if (options.sampling) measure_sampling(backend);
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  try {
    gander::Options options;
    std::vector<std::string> models;
    for (const std::string argument : std::span(arguments + 1, arguments + count)) {
      if (argument == "--stages") {
        options.stages = true;
      } else if (argument == "--sampling") {
        options.sampling = true;
      } else if (argument == "--check") {
        options.check = true;
      } else {
        models.push_back(argument);
      }
    }
    if (models.empty()) models = {"0.4b:q4_k:0.87"};
    for (const std::string& model : models) gander::measure(model, options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_gpu_token: {}\n", error.what());
    return 1;
  }
}
