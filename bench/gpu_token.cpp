// gander_gpu_token: what a token costs on an NVIDIA GPU, and each kernel of it, for models of
// released shapes with random weights.
// usage: gander_gpu_token [SHAPE TYPE]...   for example 0.4b f16 2.9b q4_k (the default)
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>

#include "backend/gpu/cuda/cuda_device.h"
#include "backend/gpu/gpu_backend.h"
#include "base/error.h"
#include "bench/synthetic_file.h"
#include "model/weights.h"

namespace gander {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;
constexpr std::size_t kTokens = 64;

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

std::shared_ptr<const Weights> random_model(const std::string& shape, const std::string& type) {
  const auto shapes = synthetic_shapes();
  const auto named = std::ranges::find(shapes, shape, &NamedShape::name);
  const std::optional<DataType> large = data_type_from_name(type);
  if (named == shapes.end() || !large) fail("usage: gander_gpu_token [SHAPE TYPE]...");
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("gander-{}.gguf", ::getpid())).string();
  SyntheticOptions options;
  options.config = named->config;
  options.large = *large;
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

/// All dispatches of each kernel, one after the other, as one submission. Bytes are those of every
/// weight: stage E skips what the hidden units' zeros allow.
void measure_kernels(gpu::GpuBackend& backend) {
  std::vector<gpu::Dispatch> rest = backend.token_program().dispatches;
  while (!rest.empty()) {
    const std::string_view kernel = rest.front().kernel;
    std::vector<gpu::Dispatch> same;
    std::vector<gpu::Dispatch> others;
    for (gpu::Dispatch& dispatch : rest) {
      (dispatch.kernel == kernel ? same : others).push_back(std::move(dispatch));
    }
    const double seconds =
        best_seconds([&] { backend.device().wait(backend.device().submit(same)); });
    std::uint64_t bytes = 0;
    for (const gpu::Dispatch& dispatch : same) {
      bytes += dispatch.bytes_read() + dispatch.bytes_written();
    }
    report(kernel, same.size(), seconds, bytes);
    rest = std::move(others);
  }
}

/// Goes on in the place of a sampler that has seen nothing.
void start(gpu::GpuBackend& backend, const SamplerSettings& settings) {
  const std::vector<float> counts(backend.config().vocab_size);
  const std::vector<std::uint8_t> uncounted(counts.size());
  SamplerMemory memory;
  memory.counts = counts;
  memory.uncounted = uncounted;
  backend.generator()->start(settings, memory);
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
      {"sample, temp. 2, top-p 0.9", {.temperature = 2.0F, .top_p = 0.9F}},
      {"sample, top-k 40, top-p 0.5", {.top_k = 40, .top_p = 0.5F}},
      {"sample, penalties, top-p 0.5",
       {.top_p = 0.5F, .presence_penalty = 0.4F, .frequency_penalty = 0.4F}},
      {"sample, min-p 0.05", {.min_p = 0.05F}}};
  for (const auto& [name, settings] : all) {
    start(backend, settings);
    const double seconds =
        best_seconds([&] { backend.device().wait(backend.device().submit(many)); });
    report(name, many.size(), seconds, sample.bytes_read() * many.size());
  }
}

/// A text of tokens in blocks of 8 that the device samples.
double generate_seconds(gpu::GpuBackend& backend, std::vector<float>& logits) {
  Generator& generator = *backend.generator();
  return best_seconds([&] {
    const TokenId first = 1;
    backend.forward({&first, 1}, Logits::Last, logits);
    start(backend, {.top_p = 0.5F, .presence_penalty = 0.4F});
    std::array<TokenId, 8> tokens;
    generator.queue(tokens.size());
    for (std::size_t done = tokens.size(); done <= kTokens; done += tokens.size()) {
      if (done < kTokens) generator.queue(tokens.size());
      generator.collect(tokens);
    }
    generator.stop();
  });
}

void measure(const std::string& shape, const std::string& type) {
  const auto weights = random_model(shape, type);
  gpu::GpuBackend backend(weights, gpu::open_cuda_device());
  const std::uint64_t bytes = backend.token_program().bytes_read();
  fmt::print("{} {} on {}: {} dispatches a token, {:.0f} MB\n", shape, type, backend.description(),
             backend.token_program().dispatches.size(), static_cast<double>(bytes) / 1e6);
  std::vector<TokenId> tokens(kTokens);
  for (std::size_t i = 0; i < kTokens; ++i) {
    tokens[i] = static_cast<TokenId>((i + 1) * 7919 % weights->config.vocab_size);
  }
  std::vector<float> logits(weights->config.vocab_size);
  const double ahead = best_seconds([&] { backend.forward(tokens, Logits::Last, logits); });
  report("tokens, queued ahead", kTokens, ahead, bytes * kTokens);
  const double waiting = best_seconds([&] {
    for (const TokenId& token : tokens) backend.forward({&token, 1}, Logits::Last, logits);
  });
  report("tokens, logits read", kTokens, waiting, bytes * kTokens);
  report("tokens, sampled on the device", kTokens, generate_seconds(backend, logits),
         bytes * kTokens);
  measure_kernels(backend);
  measure_sampling(backend);
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  try {
    std::vector<std::string> wanted(arguments + 1, arguments + count);
    if (wanted.empty()) wanted = {"0.4b", "f16", "2.9b", "q4_k"};
    if (wanted.size() % 2 != 0) gander::fail("usage: gander_gpu_token [SHAPE TYPE]...");
    for (std::size_t i = 0; i < wanted.size(); i += 2) gander::measure(wanted[i], wanted[i + 1]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_gpu_token: {}\n", error.what());
    return 1;
  }
}
