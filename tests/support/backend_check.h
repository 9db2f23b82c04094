#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"

namespace gander {

/// Between the CPU backend and the double-precision reference, both on the same stored weights, as
/// a share of the largest value. With float types only fp32 rounding remains: sums of a few
/// thousand products at 6e-8 each, over the layers. Seen: up to 4e-6.
inline constexpr double kTolerance = 1e-4;

/// With quantised types activations have 8 bits, a scale for each 32: half a step of 1/127 of the
/// largest is 0.5 % of a typical value, random weights have none of the redundancy that averages it
/// out in trained ones, and every layer adds to it. Root mean square over all values; seen: 1 to 2
/// % in two layers, 6 % in seven. The kernels are held to 3e-6 on equal activations.
inline constexpr double kQuantizedTolerance = 0.08;
inline double tolerance_of(DataType type) {
  return info(type).block_size > 1 ? kQuantizedTolerance : kTolerance;
}

/// Largest |actual - expected| as a share of the largest |expected|. NaN counts as infinite.
template <typename Actual, typename Expected>
double relative_error(std::span<const Actual> actual, std::span<const Expected> expected) {
  double error = actual.size() == expected.size() ? 0 : INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double difference = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    error = std::max(error, std::isnan(difference) ? INFINITY : difference);
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  return largest > 0 ? error / largest : error;
}

/// Root mean square of actual - expected as a share of that of expected.
template <typename Actual, typename Expected>
double typical_error(std::span<const Actual> actual, std::span<const Expected> expected) {
  double error = actual.size() == expected.size() ? 0 : INFINITY;
  double size = 0;
  for (std::size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double difference = static_cast<double>(actual[i]) - expected[i];
    error += difference * difference;
    size += static_cast<double>(expected[i]) * expected[i];
  }
  return std::isnan(error) ? INFINITY : std::sqrt(error / size);
}

/// relative_error for the float types, typical_error for the quantised ones, to go with
/// tolerance_of.
template <typename Actual, typename Expected>
double error_for(DataType type, std::span<const Actual> actual,
                 std::span<const Expected> expected) {
  return info(type).block_size > 1 ? typical_error(actual, expected)
                                   : relative_error(actual, expected);
}

/// Random tokens of the vocabulary.
std::vector<TokenId> some_tokens(const Config& config, std::size_t count, unsigned seed = 1);
/// Feeds the tokens; logits after every one.
std::vector<float> logits_of(Backend& backend, const std::vector<TokenId>& tokens);
std::vector<float> state_of(const Backend& backend, std::uint32_t slot = 0);

/// What the double-precision reference makes of some tokens: for any number of backends to be held
/// against.
struct ReferenceRun {
  ReferenceRun(std::shared_ptr<const Weights> model, std::size_t count);

  std::shared_ptr<const Weights> weights;
  std::vector<TokenId> tokens;
  std::vector<float> logits;  ///< after every token
  std::vector<float> state;
};
/// The larger of the errors (error_for the type of the head) of all logits and of the state of the
/// CPU backend.
double cpu_error(const ReferenceRun& reference, const Kernels& kernels, unsigned threads);
/// Largest difference of a backend's logits and state from the reference's after some tokens, as a
/// share of the largest value.
double error_of(Backend& backend, const std::shared_ptr<const Weights>& weights,
                std::size_t tokens);

/// A model whose widths no vector length divides: every loop has a remainder.
Config odd_config();

}  // namespace gander
