#pragma once

#include <functional>
#include <memory>

#include "backend/backend.h"

namespace gander {

/// How far a backend is from the double-precision reference, each as a share of the largest value.
struct SelfTest {
  double logits_error = 0, state_error = 0;
  double tolerance = 0;
  double seconds = 0;

  /// False for NaN.
  bool passed() const { return logits_error <= tolerance && state_error <= tolerance; }
};

/// Makes a backend for the given weights.
using OpenBackend = std::function<std::unique_ptr<Backend>(std::shared_ptr<const Weights>)>;

/// Runs a few tokens through the first two layers of the model, with its own embedding and head, on
/// the backend and on the reference: every kernel a token of the model needs, with every type those
/// layers have. Takes about a second for the largest models.
SelfTest self_test(const Weights& weights, const OpenBackend& open);

}  // namespace gander
