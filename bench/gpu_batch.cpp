// gander_gpu_batch: what steps of many tokens and sequences cost on an NVIDIA GPU, for models of
// released shapes with random weights.
// usage: gander_gpu_batch [--kernels] [--check] [--half] [--sampled] [--runs=N]
//                         [SHAPE:TYPE[:LAYERS]]... [SxT]...
//   SxT        S sequences of T tokens a step: 1x512 is a prompt, 32x1 decodes 32 sequences
//   --kernels  each kernel of a step on its own
//   --half     states in 16 bits
//   --sampled  tokens are sampled, as for a chat
//   --check    logits against those of the token program, and of texts that are cut otherwise
// LAYERS, where fewer than the model's are enough to measure.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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

// Dense half-precision products of an H100 SXM.
constexpr double kPeak = 990e12;

struct Work {
  std::uint32_t sequences = 1, tokens = 1;
};

struct Options {
  bool kernels = false, check = false, half = false, sampled = false;
  int runs = 5;
  std::vector<Work> work;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <typename Run>
double best_seconds(int runs, const Run& run) {
  double best = 1e9;
  for (int i = 0; i <= runs; ++i) {
    const Clock::time_point begin = Clock::now();
    run();
    if (i > 0) best = std::min(best, seconds_since(begin));  // the first is a warm-up
  }
  return best;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::shared_ptr<const Weights> random_model(const std::string& model) {
  const std::vector<std::string> parts = split(model, ':');
  const auto shapes = synthetic_shapes();
  const auto named = std::ranges::find(shapes, parts[0], &NamedShape::name);
  const std::optional<DataType> large =
      parts.size() < 2 ? std::nullopt : data_type_from_name(parts[1]);
  if (named == shapes.end() || !large) fail("{}: SHAPE:TYPE[:LAYERS] is wanted", model);
  SyntheticOptions options;
  options.config = named->config;
  options.large = *large;
  if (parts.size() > 2) options.config.layers = static_cast<std::uint32_t>(std::stoul(parts[2]));
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("gander-{}.gguf", ::getpid())).string();
  write_synthetic_file(path, options);
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(path)));
  std::filesystem::remove(path);  // stays mapped
  return weights;
}

std::uint64_t elements(const Matrix& matrix) {
  return std::uint64_t{matrix.rows} * matrix.columns;
}

/// Operations of a token, without the head.
double operations(const Weights& weights) {
  std::uint64_t count = 0;
  for (const LayerWeights& layer : weights.layers) {
    const TimeMixWeights& a = layer.att;
    for (const Matrix* matrix :
         {&a.receptance, &a.key, &a.value, &a.output, &a.w1, &a.w2, &a.a1, &a.a2, &a.v1, &a.v2,
          &a.g1, &a.g2, &layer.ffn.key, &layer.ffn.value}) {
      count += 2 * elements(*matrix);
    }
  }
  return static_cast<double>(count);
}

std::vector<TokenId> some_text(const Config& config, std::size_t count) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<TokenId>((i + 1) * 7919 % config.vocab_size);
  }
  return tokens;
}

void measure_kernels(gpu::GpuBackend& backend, const Work& work, int runs, bool sampled) {
  gpu::BatchRunner& batch = *backend.batch();
  std::vector<gpu::Dispatch> rest = batch
                                        .program({.rows = work.sequences * work.tokens,
                                                  .sequences = work.sequences,
                                                  .logits = work.sequences,
                                                  .best = true,
                                                  .samples = sampled,
                                                  .singles = work.tokens == 1})
                                        .dispatches;
  const auto name_of = [&](const gpu::Dispatch& dispatch) {
    return fmt::format("{} {}x{}", dispatch.kernel, dispatch.groups[0], dispatch.groups[1]);
  };
  while (!rest.empty()) {
    const std::string name = name_of(rest.front());
    std::vector<gpu::Dispatch> same, others;
    for (gpu::Dispatch& dispatch : rest) {
      (name_of(dispatch) == name ? same : others).push_back(std::move(dispatch));
    }
    const double seconds =
        best_seconds(runs, [&] { backend.device().wait(backend.device().submit(same)); });
    fmt::print("      {:<30} {:>4} × {:>9.1f} µs = {:>8.3f} ms\n", name, same.size(),
               seconds / static_cast<double>(same.size()) * 1e6, seconds * 1e3);
    rest = std::move(others);
  }
}

double error(std::span<const float> actual, std::span<const float> expected) {
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(double{expected[i]}));
    difference = std::max(difference, std::abs(double{actual[i]} - expected[i]));
    if (std::isnan(actual[i])) difference = INFINITY;
  }
  return difference / largest;
}

/// The last logits after a text in pieces, of a sequence in a slot of its own.
std::vector<float> in_pieces(gpu::GpuBackend& backend, std::uint32_t slot,
                             std::span<const TokenId> text, std::size_t piece) {
  std::vector<float> logits(backend.config().vocab_size);
  backend.reset(slot);
  for (std::size_t begin = 0; begin < text.size(); begin += piece) {
    const SequenceStep step = {slot, text.subspan(begin, std::min(piece, text.size() - begin)),
                               Logits::Last};
    backend.step({&step, 1}, logits);
  }
  return logits;
}

void check(gpu::GpuBackend& backend) {
  const std::vector<TokenId> text = some_text(backend.config(), 600);
  const std::span<const TokenId> part = std::span(text).first(40);
  std::vector<float> expected(backend.config().vocab_size);
  backend.reset();
  for (const TokenId& token : part) backend.forward({&token, 1}, Logits::Last, expected);
  const std::vector<float> batched = in_pieces(backend, 1, part, 40);
  fmt::print("  40 tokens: {:.1e} of the largest logit from the token program's\n",
             error(batched, expected));
  for (const std::size_t piece : {1U, 7U, 16U, 31U}) {
    fmt::print("  in pieces of {}: {}\n", piece,
               in_pieces(backend, 1, part, piece) == batched ? "the same bits" : "OTHER BITS");
  }
  const std::vector<float> whole = in_pieces(backend, 1, text, 600);
  for (const std::size_t piece : {33U, 64U, 100U, 250U, 512U}) {
    const std::vector<float> other = in_pieces(backend, 1, text, piece);
    fmt::print("  600 in pieces of {}: {} ({:.1e})\n", piece,
               other == whole ? "the same bits" : "OTHER BITS", error(other, whole));
  }
}

void start_sampling(gpu::GpuBackend& backend, std::uint32_t slot) {
  const std::size_t vocabulary = backend.config().vocab_size;
  const std::vector<float> counts(vocabulary);
  const std::vector<std::uint8_t> uncounted(vocabulary);
  backend.start_sampling(slot, {.top_p = 0.9F, .presence_penalty = 0.2F},
                         {.random = slot, .counts = counts, .seen = {}, .uncounted = uncounted});
}

void measure(const std::string& model, const Options& options) {
  Clock::time_point begin = Clock::now();
  const auto weights = random_model(model);
  const double made = seconds_since(begin);
  std::uint32_t slots = 2;
  for (const Work& work : options.work) slots = std::max(slots, work.sequences);
  begin = Clock::now();
  gpu::GpuBackend backend(weights, gpu::open_cuda_device(),
                          {.slots = slots, .batch_rows = 1024, .half_states = options.half});
  fmt::print("{} on {}: {:.1f} GB, made in {:.1f} s, loaded in {:.1f} s\n", model,
             backend.description(), static_cast<double>(backend.plan().total()) / 1e9, made,
             seconds_since(begin));
  if (options.check) check(backend);
  const double per_token = operations(*weights);
  const double per_logits = 2.0 * static_cast<double>(elements(weights->head));
  for (const Work& work : options.work) {
    const std::vector<TokenId> text = some_text(weights->config, work.tokens);
    std::vector<SequenceStep> steps;
    for (std::uint32_t slot = 0; slot < work.sequences; ++slot) {
      steps.push_back({slot, text, Logits::Last, options.sampled});
      if (options.sampled) start_sampling(backend, slot);
    }
    std::vector<TokenId> best(work.sequences);
    begin = Clock::now();
    backend.step(steps, {}, best);
    const double first = seconds_since(begin);
    const double seconds = best_seconds(options.runs, [&] { backend.step(steps, {}, best); });
    const double tokens = static_cast<double>(work.sequences) * work.tokens;
    const double rate = (tokens * per_token + work.sequences * per_logits) / seconds;
    fmt::print(
        "  {:>4} x {:<5} {:>9.3f} ms {:>8.0f} tok/s {:>6.1f} TFLOP/s {:>3.0f} % of the peak  "
        "(first {:.2f} s)\n",
        work.sequences, work.tokens, seconds * 1e3, tokens / seconds, rate / 1e12,
        rate / kPeak * 100, first);
    std::fflush(stdout);
    if (options.kernels) measure_kernels(backend, work, options.runs, options.sampled);
  }
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  using gander::fail;
  try {
    gander::Options options;
    std::vector<std::string> models;
    for (const std::string argument : std::span(arguments + 1, arguments + count)) {
      unsigned sequences = 0, tokens = 0;
      if (argument == "--kernels") {
        options.kernels = true;
      } else if (argument == "--half") {
        options.half = true;
      } else if (argument == "--sampled") {
        options.sampled = true;
      } else if (argument == "--check") {
        options.check = true;
      } else if (argument.starts_with("--runs=")) {
        options.runs = std::stoi(argument.substr(7));
      } else if (std::sscanf(argument.c_str(), "%ux%u", &sequences, &tokens) == 2) {
        options.work.push_back({sequences, tokens});
      } else {
        models.push_back(argument);
      }
    }
    if (models.empty()) models = {"0.4b:q4_k"};
    if (options.work.empty()) {
      options.work = {{1, 16}, {1, 512}, {1, 1024}, {32, 32}, {32, 1}, {128, 1}, {512, 1}};
    }
    for (const std::string& model : models) gander::measure(model, options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_gpu_batch: {}\n", error.what());
    return 1;
  }
}
