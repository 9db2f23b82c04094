#include "engine/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gander {
namespace {

std::vector<float> logs(const std::vector<double>& probabilities, double shift) {
  std::vector<float> logits;
  logits.reserve(probabilities.size());
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + shift));
  return logits;
}

TEST(Evaluation, KlDivergenceIsTheOneComputedByHand) {
  // KL(P || Q) of P = (1/2, 1/4, 1/4) and Q = (1/4, 1/4, 1/2): 1/2 log 2 - 1/4 log 2.
  const std::vector<float> p = logs({0.5, 0.25, 0.25}, 3);
  const std::vector<float> q = logs({0.25, 0.25, 0.5}, -2);
  const Divergence found = divergence(p, q);
  EXPECT_NEAR(found.kl, 0.25 * std::log(2.0), 1e-6);
  EXPECT_FALSE(found.same_top);
  EXPECT_NEAR(negative_log_likelihood(p, 1), std::log(4.0), 1e-6);

  // It is not symmetric: P = (9/10, 1/10) and Q = (1/2, 1/2).
  const std::vector<float> sharp = logs({0.9, 0.1}, 0);
  const std::vector<float> even = logs({0.5, 0.5}, 0);
  EXPECT_NEAR(divergence(sharp, even).kl, 0.9 * std::log(1.8) + 0.1 * std::log(0.2), 1e-6);
  EXPECT_NEAR(divergence(even, sharp).kl, -0.5 * std::log(1.8) - 0.5 * std::log(0.2), 1e-6);
  EXPECT_TRUE(divergence(sharp, even).same_top);
}

TEST(Evaluation, EqualDistributionsDivergeByNothing) {
  const std::vector<float> p = {-80, 3.5F, 90, 0.25F, 88};
  EXPECT_EQ(divergence(p, p).kl, 0);
  EXPECT_TRUE(divergence(p, p).same_top);
}

TEST(Evaluation, LogitsThatDoNotFitAnExponentialDoNotOverflow) {
  const std::vector<float> p = {3000, 0};
  const std::vector<float> q = {0, 3000};
  EXPECT_NEAR(divergence(p, q).kl, 3000, 1e-9);
}

TEST(Evaluation, QuantilesAreRanksAndMeansAreMeans) {
  Comparison comparison;
  for (int i = 100; i > 0; --i) {
    comparison.add({static_cast<double>(i), i % 4 == 0}, 1.0 * i, 2.0 * i);
  }
  EXPECT_EQ(comparison.tokens(), 100U);
  EXPECT_EQ(comparison.mean_kl(), 50.5);
  EXPECT_EQ(comparison.reference_nll(), 50.5);
  EXPECT_EQ(comparison.nll(), 101);
  EXPECT_EQ(comparison.same_top(), 0.25);
  EXPECT_EQ(comparison.kl_quantile(0.5), 50);
  EXPECT_EQ(comparison.kl_quantile(0.99), 99);
  EXPECT_EQ(comparison.kl_quantile(1), 100);
}

}  // namespace
}  // namespace gander
