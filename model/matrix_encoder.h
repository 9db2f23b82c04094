#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "model/importance.h"
#include "model/weights.h"

namespace gander {

/// How weights are rounded to the levels of a quantised type.
enum class Rounding {
  Nearest,   ///< each block's scale from its extremes (quantize)
  Weighted,  ///< each block's scales searched for the least weighted error (quantize_weighted)
};

/// Turns matrices into other types some rows at a time, on several threads, so that neither the
/// source nor the result is ever in memory as a whole. Bits do not depend on the threads.
class MatrixEncoder {
 public:
  /// `importance` may be null, and lack matrices; only Weighted uses it.
  MatrixEncoder(Rounding rounding, const Importance* importance, unsigned threads)
      : rounding_(rounding), importance_(importance), threads_(threads) {}

  /// Encodes `matrix` as `type` and passes the bytes of some rows after the other to `take`, with
  /// the number of weights they are; take returns false to give up, and so does encode then. The
  /// pages of a mapped matrix are given back on the way. Throws Error for weights that are not
  /// finite, or too large for the type, with the matrix's `name`.
  using Take = std::function<bool(std::span<const std::byte> bytes, std::size_t weights)>;
  bool encode(std::string_view name, const Matrix& matrix, DataType type, const Take& take) const;

 private:
  Rounding rounding_;
  const Importance* importance_;
  unsigned threads_;
};

/// Throws Error, naming the tensor, when a value is not finite.
void require_finite(std::string_view name, std::span<const float> values);

}  // namespace gander
