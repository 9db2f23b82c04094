#include "backend/self_test.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/reference/reference_backend.h"

namespace gander {

namespace {

constexpr std::uint32_t kLayers = 2;  // the first has no value mix, the second does
constexpr std::uint32_t kTokens = 3;

// Backends with fp32 activations are held to the plan's 0.1 %. The CPU backend rounds activations
// to 8 bits where weights are quantised: half a step is 0.5 % of a typical value, and layers add
// up.
constexpr double kTolerance = 1e-3;
constexpr double kRoundedTolerance = 0.1;

std::shared_ptr<const Weights> first_layers(const Weights& weights) {
  auto some = std::make_shared<Weights>();
  some->config = weights.config;
  some->config.layers = std::min(kLayers, weights.config.layers);
  some->naming = weights.naming;
  some->emb = weights.emb;
  some->ln0 = weights.ln0;
  some->layers.assign(weights.layers.begin(), weights.layers.begin() + some->config.layers);
  some->ln_out = weights.ln_out;
  some->head = weights.head;
  some->storage = weights.storage;
  return some;
}

double largest_difference(std::span<const float> actual, std::span<const float> expected) {
  double difference = 0;
  double largest = std::numeric_limits<double>::min();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(double{actual[i]} - double{expected[i]});
    if (std::isnan(error)) return error;
    difference = std::max(difference, error);
    largest = std::max(largest, std::fabs(double{expected[i]}));
  }
  return difference / largest;
}

struct Outcome {
  std::vector<float> logits;
  State state;
};

Outcome run(Backend& backend) {
  const Config& config = backend.config();
  std::vector<TokenId> tokens(kTokens);
  for (std::uint32_t i = 0; i < kTokens; ++i) tokens[i] = i * (config.vocab_size / kTokens);
  Outcome outcome{std::vector<float>(config.vocab_size), State(config)};
  backend.forward(tokens, Logits::Last, outcome.logits);
  backend.read_state(outcome.state);
  return outcome;
}

bool is_rounded(const Backend& backend, const Weights& weights) {
  return backend.description().starts_with("cpu") && info(weights.head.type).block_size > 1;
}

}  // namespace

SelfTest self_test(const Weights& weights, const OpenBackend& open) {
  const auto begin = std::chrono::steady_clock::now();
  const std::shared_ptr<const Weights> some = first_layers(weights);
  const std::unique_ptr<Backend> backend = open(some);
  const Outcome actual = run(*backend);
  ReferenceBackend reference(some);
  const Outcome expected = run(reference);
  SelfTest result;
  result.logits_error = largest_difference(actual.logits, expected.logits);
  result.state_error = largest_difference(actual.state.values(), expected.state.values());
  result.tolerance = is_rounded(*backend, weights) ? kRoundedTolerance : kTolerance;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace gander
