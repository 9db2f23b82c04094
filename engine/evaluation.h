#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/config.h"

namespace gander {

/// -log softmax(logits)[token], in nats, as log-sum-exp in double precision.
double negative_log_likelihood(std::span<const float> logits, TokenId token);

/// How far a model's distribution Q = softmax(logits) is from the reference P at one token.
struct Divergence {
  double kl;      ///< KL(P || Q) = sum of p log(p / q), in nats; never negative
  bool same_top;  ///< whether the likeliest token is the same
};
Divergence divergence(std::span<const float> reference, std::span<const float> logits);

/// Divergences and losses of many tokens.
class Comparison {
 public:
  void add(const Divergence& divergence, double reference_nll, double nll);

  std::size_t tokens() const { return kl_.size(); }
  double mean_kl() const { return kl_sum_ / count(); }
  double same_top() const { return static_cast<double>(same_top_) / count(); }  ///< a share
  double reference_nll() const { return reference_nll_ / count(); }
  double nll() const { return nll_ / count(); }
  /// The smallest KL that at least this share of the tokens do not exceed: 1 is the largest of all.
  double kl_quantile(double share) const;

 private:
  double count() const { return static_cast<double>(kl_.size()); }

  std::vector<double> kl_;
  double kl_sum_ = 0, reference_nll_ = 0, nll_ = 0;
  std::size_t same_top_ = 0;
};

}  // namespace gander
