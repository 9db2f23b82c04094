#include "engine/evaluation.h"

#include <algorithm>
#include <cmath>

namespace gander {

double negative_log_likelihood(std::span<const float> logits, TokenId token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - logits[token];
}

Divergence divergence(std::span<const float> reference, std::span<const float> logits) {
  const auto top_p = std::max_element(reference.begin(), reference.end());
  const auto top_q = std::max_element(logits.begin(), logits.end());
  const double largest_p = *top_p;
  const double largest_q = *top_q;
  // log p - log q is the difference of the logits but for the two normalisations, which are the
  // same for all tokens.
  double sum_p = 0;
  double sum_q = 0;
  double difference = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double weight = std::exp(reference[i] - largest_p);
    sum_p += weight;
    difference += weight * (static_cast<double>(reference[i]) - logits[i]);
    sum_q += std::exp(logits[i] - largest_q);
  }
  const double kl =
      difference / sum_p + (largest_q + std::log(sum_q)) - (largest_p + std::log(sum_p));
  return {std::max(kl, 0.0), top_p - reference.begin() == top_q - logits.begin()};
}

void Comparison::add(const Divergence& divergence, double reference_nll, double nll) {
  kl_.push_back(divergence.kl);
  kl_sum_ += divergence.kl;
  same_top_ += divergence.same_top ? 1 : 0;
  reference_nll_ += reference_nll;
  nll_ += nll;
}

double Comparison::kl_quantile(double share) const {
  std::vector<double> sorted = kl_;
  std::ranges::sort(sorted);
  const auto rank = static_cast<std::size_t>(std::ceil(share * count()));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

}  // namespace gander
