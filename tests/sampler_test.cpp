#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "base/error.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(std::mt19937& random, std::size_t size, float spread) {
  std::vector<float> logits(size);
  for (float& logit : logits) {
    logit = static_cast<float>(random() % 100000) / 100000.0F * spread - spread / 2;
  }
  return logits;
}

TEST(Sampler, GreedyTakesTheLargestAndOfEqualsTheLowestId) {
  Sampler sampler({.temperature = 0.0F}, 1000, nullptr);
  std::vector<float> logits(1000, -1.0F);
  EXPECT_EQ(sampler.sample(logits), 0U);
  logits[999] = 2.0F;
  EXPECT_EQ(sampler.sample(logits), 999U);
  logits[700] = logits[64] = logits[63] = 2.0F;
  EXPECT_EQ(sampler.sample(logits), 63U);
}

// The first numbers of SplitMix64 with seed 1234567, as its authors publish them:
// 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
// 16408922859458223821. Of 65536 equal tokens the upper 16 bits choose.
TEST(Sampler, DrawsWithThePublishedGenerator) {
  const std::vector<float> logits(65536, 0.5F);
  Sampler sampler({.seed = 1234567}, 65536, nullptr);
  for (const TokenId expected : {22942U, 11379U, 34878U, 16318U, 58296U}) {
    EXPECT_EQ(sampler.sample(logits), expected);
  }
  sampler.reset();
  EXPECT_EQ(sampler.sample(logits), 22942U);
  sampler.reseed(1234567);
  EXPECT_EQ(sampler.sample(logits), 22942U);
  sampler.reseed(7);
  EXPECT_NE(sampler.sample(logits), 22942U);
}

/// The probabilities that are left, by the definition of each step and with sorting.
std::map<TokenId, double> probabilities(const std::vector<float>& logits,
                                        const SamplerSettings& settings) {
  struct Entry {
    TokenId token;
    double p;
  };
  std::vector<Entry> left;
  const double largest = *std::ranges::max_element(logits);
  for (TokenId token = 0; token < logits.size(); ++token) {
    left.push_back({token, std::exp((logits[token] - largest) / double{settings.temperature})});
  }
  const auto normalise = [&] {
    double total = 0;
    for (const Entry& entry : left) total += entry.p;
    for (Entry& entry : left) entry.p /= total;
  };
  const auto keep_share = [&](double share) {
    double sum = 0;
    std::size_t count = 0;
    while (count < left.size() && sum < share) sum += left[count++].p;
    left.resize(count);
    normalise();
  };
  normalise();
  std::ranges::sort(left, [](const Entry& a, const Entry& b) {
    return std::pair(-a.p, a.token) < std::pair(-b.p, b.token);
  });
  if (settings.top_k > 0 && settings.top_k < left.size()) left.resize(settings.top_k);
  normalise();
  if (settings.top_p < 1) keep_share(settings.top_p);
  if (settings.min_p > 0) {
    const double least = left[0].p * settings.min_p;
    std::erase_if(left, [&](const Entry& entry) { return entry.p < least; });
    normalise();
  }
  if (settings.typical_p < 1) {
    double entropy = 0;
    for (const Entry& entry : left) entropy -= entry.p * std::log(entry.p);
    std::ranges::sort(left, [&](const Entry& a, const Entry& b) {
      return std::fabs(-std::log(a.p) - entropy) < std::fabs(-std::log(b.p) - entropy);
    });
    keep_share(settings.typical_p);
  }
  std::map<TokenId, double> result;
  for (const Entry& entry : left) result[entry.token] = entry.p;
  return result;
}

void expect_distribution(const SamplerSettings& settings, std::size_t vocab_size, float spread) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(random, vocab_size, spread);
  const std::map<TokenId, double> expected = probabilities(logits, settings);
  Sampler sampler(settings, static_cast<std::uint32_t>(vocab_size), nullptr);
  constexpr int kDraws = 4000;
  std::map<TokenId, int> counts;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits)];
  for (const auto& [token, count] : counts) {
    ASSERT_TRUE(expected.contains(token)) << token << " should have been dropped";
  }
  for (const auto& [token, p] : expected) {
    const double deviation = std::sqrt(kDraws * p * (1 - p));
    ASSERT_NEAR(counts[token], kDraws * p, 6 * deviation + 3) << token;
  }
}

TEST(Sampler, DrawsFromTheDistributionItsSettingsDefine) {
  for (const std::size_t vocab_size : {3U, 100U, 1000U}) {
    for (const float spread : {4.0F, 20.0F}) {
      expect_distribution({}, vocab_size, spread);
      expect_distribution({.temperature = 2.5F}, vocab_size, spread);
      expect_distribution({.temperature = 0.3F}, vocab_size, spread);
      expect_distribution({.top_k = 2}, vocab_size, spread);
      expect_distribution({.temperature = 1.7F, .top_k = 40}, vocab_size, spread);
      expect_distribution({.top_p = 0.5F}, vocab_size, spread);
      expect_distribution({.temperature = 1.5F, .top_p = 0.95F}, vocab_size, spread);
      expect_distribution({.min_p = 0.1F}, vocab_size, spread);
      expect_distribution({.typical_p = 0.4F}, vocab_size, spread);
      expect_distribution({.top_k = 30, .top_p = 0.8F, .min_p = 0.05F, .typical_p = 0.7F},
                          vocab_size, spread);
      expect_distribution({.top_p = 0.9F, .min_p = 0.2F, .typical_p = 0.9F}, vocab_size, spread);
    }
  }
}

TEST(Sampler, SelectionsOfEqualTokensKeepTheLowestIds) {
  constexpr std::uint32_t kVocabulary = 3000;
  const std::vector<float> logits(kVocabulary, 1.0F);
  const auto largest_drawn = [&](const SamplerSettings& settings) {
    Sampler sampler(settings, kVocabulary, nullptr);
    TokenId largest = 0;
    for (int i = 0; i < 3000; ++i) largest = std::max(largest, sampler.sample(logits));
    return largest;
  };
  EXPECT_EQ(largest_drawn({.top_k = 5}), 4U);
  EXPECT_EQ(largest_drawn({.top_k = 200}), 199U);
  EXPECT_NEAR(largest_drawn({.top_p = 0.01F}), 29, 1);
  EXPECT_NEAR(largest_drawn({.typical_p = 0.01F}), 29, 1);
}

TEST(Sampler, PenaltiesAgreeWithTheirFormula) {
  constexpr std::uint32_t kVocabulary = 50;
  const SamplerSettings settings = {.temperature = 0.0F,
                                    .repetition_penalty = 1.3F,
                                    .presence_penalty = 0.4F,
                                    .frequency_penalty = 0.7F,
                                    .penalty_decay = 0.9F,
                                    .logit_bias = {{3, 1.5F}, {4, -kInfinity}}};
  Sampler sampler(settings, kVocabulary, nullptr);
  std::mt19937 random(6);
  std::map<TokenId, double> occurrences;
  int different = 0;
  for (int step = 0; step < 2000; ++step) {
    const std::vector<float> logits = random_logits(random, kVocabulary, 4.0F);
    std::vector<double> adjusted(logits.begin(), logits.end());
    adjusted[3] += 1.5;
    adjusted[4] = -1e30;
    for (const auto& [token, count] : occurrences) {
      double& logit = adjusted[token];
      logit = logit > 0 ? logit / 1.3F : logit * 1.3F;
      logit -= 0.4F + count * 0.7F;
    }
    const auto expected = std::ranges::max_element(adjusted) - adjusted.begin();
    const auto plain = std::ranges::max_element(logits) - logits.begin();
    ASSERT_EQ(sampler.sample(logits), expected) << step;
    different += expected != plain ? 1 : 0;

    const auto token = static_cast<TokenId>(random() % 30);
    sampler.accept(token);
    for (auto& entry : occurrences) entry.second *= 0.9F;
    occurrences[token] += 1;
  }
  EXPECT_GT(different, 200) << "the penalties changed too little for this test";
  sampler.forget();
  std::vector<float> flat(kVocabulary, 0.0F);
  EXPECT_EQ(sampler.sample(flat), 3U) << "only the bias is left";
}

TEST(Sampler, DecayReachesFromEverythingToNothing) {
  // With decay 0 only the last token has an occurrence; presence stays.
  Sampler last({.temperature = 0.0F, .frequency_penalty = 1.0F, .penalty_decay = 0.0F}, 3, nullptr);
  for (const TokenId token : {0U, 1U, 0U}) last.accept(token);
  EXPECT_EQ(last.sample(std::vector<float>{0.9F, 0.0F, -0.5F}), 1U);
  EXPECT_EQ(last.sample(std::vector<float>{1.1F, 0.0F, -0.5F}), 0U);
  // Without decay every one counts, through far more tokens than a float's exponent could hide.
  Sampler all({.temperature = 0.0F, .frequency_penalty = 1.0F, .penalty_decay = 1.0F}, 3, nullptr);
  for (int i = 0; i < 100000; ++i) all.accept(i % 4 == 0 ? 0 : 1);
  EXPECT_EQ(all.sample(std::vector<float>{24990, 75010, 0}), 1U);
  EXPECT_EQ(all.sample(std::vector<float>{25010, 74990, 0}), 0U);
  // A long text at the usual decay: the count tends to 1 / (1 - decay).
  Sampler usual({.temperature = 0.0F, .frequency_penalty = 1.0F, .penalty_decay = 0.996F}, 2,
                nullptr);
  for (int i = 0; i < 100000; ++i) usual.accept(0);
  EXPECT_EQ(usual.sample(std::vector<float>{250.5F, 0}), 0U);
  EXPECT_EQ(usual.sample(std::vector<float>{249.5F, 0}), 1U);
}

TEST(Sampler, SpacesTabsAndDigitsAreNotPenalised) {
  const Tokenizer with_number = byte_tokenizer({" \t42", "4x"});
  const auto penalised = [&](TokenId token) {
    Sampler sampler({.temperature = 0.0F, .presence_penalty = 1.0F, .frequency_penalty = 1.0F}, 300,
                    &with_number);
    sampler.accept(token);
    std::vector<float> logits(300, 0.0F);
    logits[token] = 0.5F;
    return sampler.sample(logits) != token;
  };
  EXPECT_FALSE(penalised(1 + ' '));
  EXPECT_FALSE(penalised(1 + '\t'));
  EXPECT_FALSE(penalised(1 + '7'));
  EXPECT_FALSE(penalised(257));
  EXPECT_TRUE(penalised(258));
  EXPECT_TRUE(penalised(1 + '\n'));
  EXPECT_TRUE(penalised(1 + 'a'));
  EXPECT_TRUE(penalised(299)) << "an id without text";
}

TEST(Sampler, LogitsThatAreNoNumbersDoNoHarm) {
  const std::vector<SamplerSettings> all_settings = {
      {},
      {.temperature = 0.0F},
      {.temperature = 1e-38F},
      {.temperature = 100.0F},
      {.top_k = 10},
      {.top_p = 0.5F},
      {.min_p = 0.5F},
      {.typical_p = 0.5F},
      {.top_k = 50, .top_p = 0.9F, .min_p = 0.1F, .typical_p = 0.9F}};
  constexpr std::uint32_t kVocabulary = 100;  // the last block has padding
  for (SamplerSettings settings : all_settings) {
    settings.presence_penalty = settings.frequency_penalty = 1.0F;
    settings.repetition_penalty = 2.0F;
    Sampler sampler(settings, kVocabulary, nullptr);
    for (const float filling : {kNan, kInfinity, -kInfinity, 3e38F, -3e38F, 0.0F, 1e-40F}) {
      std::vector<float> logits(kVocabulary, filling);
      for (int i = 0; i < 50; ++i) {
        const TokenId token = sampler.sample(logits);
        ASSERT_LT(token, kVocabulary);
        sampler.accept(token);
      }
    }
    sampler.reset();
    std::vector<float> logits(kVocabulary, kNan);
    logits[77] = -5.0F;
    EXPECT_EQ(sampler.sample(logits), 77U);
    logits.assign(kVocabulary, 10.0F);
    logits[78] = kInfinity;
    EXPECT_EQ(sampler.sample(logits), 78U);
    logits.assign(kVocabulary, -kInfinity);
    logits[79] = -4.0F;
    EXPECT_EQ(sampler.sample(logits), 79U);
  }
}

TEST(Sampler, BannedTokensAreNeverDrawn) {
  SamplerSettings settings;
  for (TokenId token = 0; token < 100; ++token) {
    if (token != 42) settings.logit_bias.emplace_back(token, -kInfinity);
  }
  Sampler sampler(settings, 100, nullptr);
  const std::vector<float> logits(100, 1.0F);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(sampler.sample(logits), 42U);
}

TEST(Sampler, RefusesSettingsOutOfRange) {
  const auto expect_error = [](const SamplerSettings& settings, const std::string& message) {
    EXPECT_THAT([&] { Sampler(settings, 100, nullptr); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  expect_error({.temperature = -0.1F}, "temperature is -0.1");
  expect_error({.temperature = kNan}, "temperature is nan");
  expect_error({.temperature = kInfinity}, "temperature is inf");
  expect_error({.top_p = 0.0F}, "top-p is 0");
  expect_error({.top_p = 1.5F}, "top-p is 1.5");
  expect_error({.min_p = -1.0F}, "min-p is -1");
  expect_error({.min_p = 2.0F}, "min-p is 2");
  expect_error({.typical_p = 0.0F}, "typical-p is 0");
  expect_error({.repetition_penalty = 0.0F}, "repetition penalty is 0");
  expect_error({.presence_penalty = kNan}, "presence penalty is nan");
  expect_error({.frequency_penalty = 1e9F}, "frequency penalty is 1000000000");
  expect_error({.penalty_decay = 1.1F}, "penalty decay is 1.1");
  expect_error({.logit_bias = {{100, 1.0F}}}, "token 100: the model has only 100");
  expect_error({.logit_bias = {{1, kNan}}}, "logit bias is nan");
  EXPECT_THROW(Sampler({}, 0, nullptr), Error);
}

}  // namespace
}  // namespace gander
