#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace gander {

/// How far a backend is from the double-precision reference, each as a share of the largest value.
struct SelfTest {
  double logits_error = 0, state_error = 0;
  double tolerance = 0;
  /// Of prompts read at once, from the same tokens read one by one; there batches may round more.
  double prompt_error = 0;
  double prompt_tolerance = 0;
  bool reads_at_once = false;         ///< it has ways of its own for prompts, and those were tested
  bool generates = false;             ///< it has a generator, and that was tested too
  bool takes_likeliest = true;        ///< what it chose greedily were the largest logits
  std::vector<std::uint32_t> layers;  ///< of the model that ran, in this order
  double seconds = 0;

  /// False for NaN.
  bool passed() const {
    return logits_error <= tolerance && state_error <= tolerance &&
           prompt_error <= prompt_tolerance && takes_likeliest;
  }
  /// For people, without a period: what is wrong, or how good it is.
  std::string verdict() const;
};

/// Makes a backend for the given weights.
using OpenBackend = std::function<std::unique_ptr<Backend>(std::shared_ptr<const Weights>)>;

/// Layers in which every matrix (receptance, key, w1, ...) occurs with every type that it has in
/// the model: the first two, the others chosen greedily; in order.
std::vector<std::uint32_t> layers_to_test(const Weights& weights);

/// Runs three tokens through these layers of the model, with its own embedding and head, on the
/// backend and on the reference: every kernel that a token of the model needs, with every type it
/// meets. Then two tokens are generated greedily, if the backend can, and prompts are read at once
/// and token by token, if that is not the same (Backend::telling_lengths).
SelfTest self_test(const Weights& weights, const OpenBackend& open);

/// What `open` makes of the weights once its self-test has passed. Throws Error, naming the backend
/// as `name`, when it fails; what goes wrong in `open` and while testing goes on to the caller.
std::unique_ptr<Backend> open_tested(std::string_view name, std::shared_ptr<const Weights> weights,
                                     const OpenBackend& open);

using MakeBackend = std::function<std::unique_ptr<Backend>()>;

/// What `first` makes; when it throws Error, a line to `warn` (may be null) that the backend called
/// `name` is not used and why, and what `other` makes.
std::unique_ptr<Backend> open_or_other(std::string_view name, const MakeBackend& first,
                                       const MakeBackend& other,
                                       const std::function<void(std::string_view)>& warn);

}  // namespace gander
