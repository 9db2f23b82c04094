#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/state.h"
#include "model/weights.h"

namespace gander {

/// A token in a model with random weights, in double precision, after some tokens before it: what
/// every stage of the token program reads and what it has to write.
class StageCase {
 public:
  explicit StageCase(Weights weights);

  const Weights& weights() const { return *weights_; }
  const Config& config() const { return weights_->config; }
  TokenId token() const { return token_; }
  /// The state before the token, and after it.
  const State& before() const { return before_; }
  const State& after() const { return after_; }

  /// An intermediate of the token by the name ReferenceBackend's hook gives it; also
  ///   x         what the layer reads [C]
  ///   low_rank  tanh(w1 xw), a1 xa, v1 xv, sigmoid(g1 xg) [rw + ra + rv + rg]; zeros for v1 in
  ///             layer 0
  const std::vector<double>& exact(std::string_view name, std::uint32_t layer) const;
  /// The same, rounded: what a stage is given.
  std::vector<float> rounded(std::string_view name, std::uint32_t layer) const;

 private:
  std::shared_ptr<const Weights> weights_;
  TokenId token_ = 0;
  State before_, after_;
  std::map<std::pair<std::string, std::uint32_t>, std::vector<double>, std::less<>> values_;
};

/// A small model of two layers whose rows suit the type: three heads of 64, for Q4_K, Q5_K and Q6_K
/// two of 256 with ranks of whole blocks. All matrices have the type.
Weights stage_weights(DataType type);
/// The same with heads of 23, and widths no vector divides: floats only.
Weights odd_stage_weights(DataType type);
/// Every matrix of a stage has another type, in an order that depends on `turn`.
Weights mixed_stage_weights(std::uint32_t turn);

}  // namespace gander
