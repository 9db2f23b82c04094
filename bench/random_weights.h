#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/tensor.h"

namespace gander {

/// Weights for benchmarks, drawn straight in their stored form: random bits for the quantised
/// values and scales that give the wanted size. Encoding noise instead would take minutes for the
/// larger models. The same seed gives the same bytes.
class RandomWeights {
 public:
  explicit RandomWeights(std::uint64_t seed) : state_(seed) {}

  /// Fills whole blocks of `type` with values of mean 0 and this standard deviation.
  void fill(DataType type, std::span<std::byte> out, float deviation);
  /// Values drawn evenly from low..high.
  std::vector<float> between(std::size_t count, float low, float high);

 private:
  std::uint64_t next();
  void fill_bits(std::span<std::byte> out);
  template <typename Block, typename SetScales>
  void fill_blocks(std::span<std::byte> out, const SetScales& set_scales);

  std::uint64_t state_;
};

}  // namespace gander
