// gander_make_model: writes a GGUF file of a released model's shape with random weights, and
// measures how many hidden units of channel mixing its relu² leaves zero.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>

#include "backend/reference/reference_backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "bench/synthetic_file.h"
#include "model/weights.h"

namespace gander {
namespace {

struct Options {
  std::string path, shape = "0.4b", type = "q4_k", low_rank = "f16";
  double zeros = 0.87;
  std::uint64_t seed = 1;
  std::uint32_t check = 3;  ///< tokens; 0: no measurement
  bool json = false;
};

DataType parse_type(const std::string& text) {
  const std::optional<DataType> type = data_type_from_name(text);
  if (!type) fail("unknown type {}", text);
  return *type;
}

Config parse_shape(const std::string& text) {
  std::string names;
  for (const NamedShape& shape : synthetic_shapes()) {
    if (shape.name == text) return shape.config;
    names += fmt::format(" {}", shape.name);
  }
  fail("unknown shape {}; there are{}", text, names);
}

struct Measured {
  double zeros = 0, least = 1, most = 0;  ///< of all layers; of the layers with fewest and most
  double stream = 0;                      ///< root mean square of x after the last layer
};

// Runs some tokens in double precision, the first one without counting.
Measured measure(const std::string& path, std::uint32_t tokens) {
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(path)));
  const Config config = weights->config;
  std::vector<double> zeros(config.layers);
  Measured measured;
  bool counts = false;
  ReferenceBackend backend(weights);
  backend.set_hook([&](std::string_view name, std::uint32_t layer, std::span<const double> values) {
    const auto size = static_cast<double>(values.size());
    if (name == "h" && counts) {
      const auto found = static_cast<double>(std::ranges::count(values, 0.0));
      zeros[layer] += found / size / tokens;
    }
    if (name == "x_ffn" && layer + 1 == config.layers) {
      double sum = 0;
      for (const double x : values) sum += x * x;
      measured.stream = std::sqrt(sum / size);
    }
  });
  for (std::uint32_t i = 0; i <= tokens; ++i) {
    const TokenId token = i * 7919 % config.vocab_size;
    backend.forward({&token, 1}, Logits::None, {});
    counts = true;
  }
  for (const double share : zeros) {
    measured.zeros += share / config.layers;
    measured.least = std::min(measured.least, share);
    measured.most = std::max(measured.most, share);
  }
  return measured;
}

void make_model(const Options& options) {
  SyntheticOptions synthetic;
  synthetic.config = parse_shape(options.shape);
  synthetic.large = parse_type(options.type);
  synthetic.low_rank = parse_type(options.low_rank);
  synthetic.zeros = options.zeros;
  synthetic.seed = options.seed;
  const auto begin = std::chrono::steady_clock::now();
  write_synthetic_file(options.path, synthetic);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const std::uint64_t size = synthetic_file_size(synthetic);
  Measured measured;
  if (options.check > 0) measured = measure(options.path, options.check);
  if (options.json) {
    nlohmann::ordered_json json = {
        {"path", options.path}, {"shape", options.shape}, {"type", options.type}, {"bytes", size}};
    if (options.check > 0) {
      json["zeros"] = measured.zeros;
      json["zeros_least"] = measured.least;
      json["zeros_most"] = measured.most;
    }
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("{}: {} {}, {} in {:.1f} s\n", options.path, options.shape, options.type,
             bytes_text(size), seconds);
  if (options.check == 0) return;
  fmt::print("zero after relu²: {:.1f} % (layers: {:.1f} to {:.1f} %), wanted {:.1f} %\n",
             100 * measured.zeros, 100 * measured.least, 100 * measured.most, 100 * options.zeros);
  fmt::print("x after the last layer: {:.2f} root mean square\n", measured.stream);
  if (!std::isfinite(measured.stream)) fail("the activations are not finite");
}

int run(int count, char** arguments) {
  CLI::App program("Writes a GGUF file of a released model's shape with random weights");
  Options options;
  program.add_option("FILE", options.path, "the file to write")->required();
  program.add_option("--shape", options.shape, "tiny, 0.1b, 0.4b, 1.5b, 2.9b")
      ->capture_default_str();
  program.add_option("--type", options.type, "of the large matrices")->capture_default_str();
  program.add_option("--low-rank", options.low_rank, "type of the low-rank matrices")
      ->capture_default_str();
  program
      .add_option("--zeros", options.zeros, "share of hidden units that are zero (trained: 0.87)")
      ->check(CLI::Range(0.01, 0.99))
      ->capture_default_str();
  program.add_option("--seed", options.seed)->capture_default_str();
  program.add_option("--check", options.check, "tokens to measure the zeros with; 0: none")
      ->capture_default_str();
  program.add_flag("--json", options.json, "print one JSON object");
  CLI11_PARSE(program, count, arguments);
  make_model(options);
  return 0;
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  try {
    return gander::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "gander_make_model: {}\n", error.what());
    return 1;
  }
}
