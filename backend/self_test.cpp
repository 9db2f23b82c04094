#include "backend/self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include "backend/reference/reference_backend.h"
#include "base/error.h"

namespace gander {

namespace {

constexpr std::uint32_t kTestedTokens = 3;  // one by one

// GPUs have fp32 activations, or 16-bit integers: they are held to the plan's 0.1 %. The CPU
// backend rounds activations to 8 bits where weights are quantised: half a step is 0.5 % of a
// typical value. GPUs round a prompt's activations to halves, 0.05 % of a value. Layers add up.
constexpr double kTolerance = 1e-3;
constexpr double kRoundedTolerance = 0.1;
constexpr double kPromptTolerance = 1e-2;

// A matrix's place in its layer, and its type.
using Role = std::pair<std::size_t, DataType>;

std::set<Role> roles_of(const LayerWeights& layer) {
  const TimeMixWeights& a = layer.att;
  const std::array matrices = {&a.receptance, &a.key, &a.value,       &a.output,       &a.w1,
                               &a.w2,         &a.a1,  &a.a2,          &a.v1,           &a.v2,
                               &a.g1,         &a.g2,  &layer.ffn.key, &layer.ffn.value};
  std::set<Role> roles;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    if (matrices[i]->rows > 0) roles.emplace(i, matrices[i]->type);
  }
  return roles;
}

std::set<Role> without(const std::set<Role>& roles, const std::set<Role>& others) {
  std::set<Role> rest;
  std::ranges::set_difference(roles, others, std::inserter(rest, rest.end()));
  return rest;
}

std::shared_ptr<const Weights> some_layers(const Weights& weights,
                                           const std::vector<std::uint32_t>& layers) {
  auto some = std::make_shared<Weights>();
  some->config = weights.config;
  some->config.layers = static_cast<std::uint32_t>(layers.size());
  some->naming = weights.naming;
  some->emb = weights.emb;
  some->ln0 = weights.ln0;
  for (const std::uint32_t layer : layers) some->layers.push_back(weights.layers[layer]);
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

// Goes on with these tokens, all at once.
Outcome read(Backend& backend, std::span<const TokenId> tokens) {
  Outcome outcome{std::vector<float>(backend.config().vocab_size), State(backend.config())};
  backend.forward(tokens, Logits::Last, outcome.logits);
  backend.read_state(outcome.state);
  return outcome;
}

Outcome run(Backend& backend) {
  std::vector<TokenId> tokens(kTestedTokens);
  for (std::uint32_t i = 0; i < kTestedTokens; ++i) {
    tokens[i] = i * (backend.config().vocab_size / kTestedTokens);
  }
  return read(backend, tokens);
}

bool is_rounded(const Backend& backend, const Weights& weights) {
  if (!backend.description().starts_with("cpu")) return false;
  const auto quantised = [](DataType type) { return info(type).block_size > 1; };
  return quantised(weights.head.type) ||
         std::ranges::any_of(weights.layers, [&](const LayerWeights& layer) {
           return std::ranges::any_of(roles_of(layer), quantised, &Role::second);
         });
}

TokenId likeliest(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

// Whether the generator goes on from this outcome as a CPU would that takes the largest logit.
bool takes_likeliest(Backend& backend, const Outcome& outcome) {
  std::array<TokenId, 2> tokens;
  Generator& generator = *backend.generator();
  start_fresh(generator, {.temperature = 0.0F}, backend.config().vocab_size);
  generator.queue(tokens.size());
  generator.collect(tokens);
  generator.stop();
  if (tokens[0] != likeliest(outcome.logits)) return false;
  backend.write_state(outcome.state);
  std::vector<float> logits(outcome.logits.size());
  backend.forward(std::span(tokens).first(1), Logits::Last, logits);
  return tokens[1] == likeliest(logits);
}

// The largest difference between prompts read at once and one token after the other.
double prompt_error(Backend& backend) {
  const std::span<const std::uint32_t> lengths = backend.telling_lengths();
  std::vector<TokenId> tokens(lengths.back());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<TokenId>(7919 * (i + 1) % backend.config().vocab_size);
  }
  std::vector<Outcome> expected;
  expected.reserve(lengths.size());
  backend.reset();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto token = std::span(tokens).subspan(i, 1);
    if (i + 1 == lengths[expected.size()]) {
      expected.push_back(read(backend, token));
    } else {
      backend.forward(token, Logits::None, {});
    }
  }
  double error = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    backend.reset();
    const Outcome actual = read(backend, std::span(tokens).first(lengths[i]));
    for (const double difference :
         {largest_difference(actual.logits, expected[i].logits),
          largest_difference(actual.state.values(), expected[i].state.values())}) {
      if (std::isnan(difference)) return difference;
      error = std::max(error, difference);
    }
  }
  return error;
}

}  // namespace

std::string SelfTest::verdict() const {
  if (logits_error <= tolerance && state_error <= tolerance &&
      !(prompt_error <= prompt_tolerance)) {
    return fmt::format(
        "prompts read at once are off by {:.1e} of the largest value, {:.0e} is allowed",
        prompt_error, prompt_tolerance);
  }
  if (!takes_likeliest) return "what it generates greedily are not the largest logits";
  return fmt::format(
      "logits are off by {:.1e}, the state by {:.1e} of the largest value, {:.0e} is "
      "allowed",
      logits_error, state_error, tolerance);
}

std::vector<std::uint32_t> layers_to_test(const Weights& weights) {
  const std::vector<LayerWeights>& all = weights.layers;
  std::set<Role> missing;
  for (const LayerWeights& layer : all) missing.merge(roles_of(layer));
  std::vector<std::uint32_t> layers;
  const auto take = [&](std::uint32_t layer) {
    layers.push_back(layer);
    missing = without(missing, roles_of(all[layer]));
  };
  // The first has no value mix, the second does.
  for (std::uint32_t layer = 0; layer < std::min<std::size_t>(2, all.size()); ++layer) take(layer);
  while (!missing.empty()) {
    std::uint32_t best = 0;
    std::size_t least = missing.size();
    for (std::uint32_t layer = 0; layer < all.size(); ++layer) {
      const std::size_t left = without(missing, roles_of(all[layer])).size();
      if (left < least) {
        least = left;
        best = layer;
      }
    }
    take(best);
  }
  std::ranges::sort(layers);
  return layers;
}

SelfTest self_test(const Weights& weights, const OpenBackend& open) {
  const auto begin = std::chrono::steady_clock::now();
  SelfTest result;
  result.layers = layers_to_test(weights);
  const std::shared_ptr<const Weights> some = some_layers(weights, result.layers);
  const std::unique_ptr<Backend> backend = open(some);
  const Outcome actual = run(*backend);
  ReferenceBackend reference(some);
  const Outcome expected = run(reference);
  result.logits_error = largest_difference(actual.logits, expected.logits);
  result.state_error = largest_difference(actual.state.values(), expected.state.values());
  result.tolerance = is_rounded(*backend, *some) ? kRoundedTolerance : kTolerance;
  Generator* const generator = backend->generator();
  result.generates = generator != nullptr && generator->supports({.temperature = 0.0F});
  if (result.passed() && result.generates) {
    result.takes_likeliest = takes_likeliest(*backend, actual);
  }
  result.prompt_tolerance = std::max(kPromptTolerance, result.tolerance);
  result.reads_at_once = !backend->telling_lengths().empty();
  if (result.passed() && result.reads_at_once) result.prompt_error = prompt_error(*backend);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

std::unique_ptr<Backend> open_tested(std::string_view name, std::shared_ptr<const Weights> weights,
                                     const OpenBackend& open) {
  const SelfTest test = self_test(*weights, open);
  if (!test.passed()) {
    fail("{} computes this model wrongly: {}: please report it, and use --backend cpu", name,
         test.verdict());
  }
  return open(std::move(weights));
}

std::unique_ptr<Backend> open_or_other(std::string_view name, const MakeBackend& first,
                                       const MakeBackend& other,
                                       const std::function<void(std::string_view)>& warn) {
  try {
    return first();
  } catch (const Error& error) {
    if (warn) warn(fmt::format("{} is not used: {}", name, error.what()));
  }
  return other();
}

}  // namespace gander
