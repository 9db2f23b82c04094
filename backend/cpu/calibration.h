#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "model/importance.h"
#include "model/state.h"
#include "model/weights.h"

namespace gander {

struct CalibrationOptions {
  unsigned threads = 1;
  /// Called after each chunk with the share of the work that is done, 0 to 1; returns false to
  /// give up. May be empty.
  std::function<bool(double share)> progress = {};
};

/// Runs a text through the model and measures what each matrix reads: the mean square of every
/// column's input over the tokens, by the matrix's GGUF name; the embedding, which reads nothing,
/// is not in it. Nothing when progress gave up.
///
/// All tokens go through layer 0, then all through layer 1, and so on, so that one layer's weights
/// are in memory at a time, and between the layers two vectors a token. Bits do not depend on the
/// number of threads.
std::optional<Importance> measure_importance(std::shared_ptr<const Weights> weights,
                                             std::span<const TokenId> tokens,
                                             const CalibrationOptions& options = {});

}  // namespace gander
