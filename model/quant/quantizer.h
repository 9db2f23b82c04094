#pragma once

#include <cstddef>
#include <span>

#include "model/tensor.h"

namespace gander {

/// Encodes a row like quantize(), but chooses the scales of each block so that
///   sum_j importance_j sqrt(m + x_j^2) (x_j - value_j)^2,  m = mean of x^2 around x_j,
/// is small: what a matrix product sees of the error when importance_j is the mean square of its
/// input j, and a little more for large weights, which tend to matter more than the mean says.
/// `importance` is empty (all the same) or has a positive number for each value.
/// Values must be finite and at most 65504 large.
void quantize_weighted(DataType type, std::span<const float> values,
                       std::span<const float> importance, std::span<std::byte> out);

}  // namespace gander
