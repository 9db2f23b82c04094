#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/gpu/device_sampler.h"
#include "engine/sampler.h"
#include "tests/support/test_device.h"
#include "tests/support/vocabularies.h"

namespace gander::gpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint32_t kHeadRows = 48;  // of a group of the head

std::uint32_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// What the kernel `head` leaves beside the logits: the first largest of each group.
std::vector<std::uint32_t> partial_maxima(const std::vector<float>& logits) {
  std::vector<std::uint32_t> maxima;
  for (std::uint32_t i = 0; i < logits.size(); ++i) {
    if (i % kHeadRows == 0) {
      maxima.push_back(ordered(logits[i]));
      maxima.push_back(i);
    } else if (ordered(logits[i]) > maxima[maxima.size() - 2]) {
      maxima[maxima.size() - 2] = ordered(logits[i]);
      maxima.back() = i;
    }
  }
  return maxima;
}

/// The kernel `sample` behind an interface like the sampler's.
class OnDevice {
 public:
  OnDevice(const Sampler& sampler, std::uint32_t vocab_size, std::uint32_t threads = 256,
           Order order = Order::Forward)
      : device_(open_test_device(order)),
        logits_(allocate(vocab_size * sizeof(float))),
        maxima_(allocate((vocab_size + kHeadRows - 1) / kHeadRows * 2 * sizeof(std::uint32_t))),
        token_(allocate(sizeof(TokenId))),
        sampler_(*device_, vocab_size, logits_, maxima_, token_) {
    Config config;
    config.vocab_size = vocab_size;
    const Recorder recorder(*device_, config);
    sampler_.record(program_, recorder, 1);
    // As many as are asked for, or as the device lets this kernel have.
    program_.dispatches[0].threads = std::min(
        threads, device_->pipeline("sample", model_constants(config, 0)).max_threads / 32 * 32);
    start(sampler);
  }

  void start(const Sampler& sampler) {
    sampler_.start(sampler.settings(), sampler.memory());
    sampled_ = 0;
  }

  /// Chooses, records the choice, and checks that it is in both places.
  TokenId sample(const std::vector<float>& logits) {
    device_->write(logits_, std::as_bytes(std::span(logits)));
    const std::vector<std::uint32_t> maxima = partial_maxima(logits);
    device_->write(maxima_, std::as_bytes(std::span(maxima)));
    device_->wait(device_->submit(program_.dispatches));
    TokenId next = 0;
    TokenId collected = 0;
    device_->read(token_, std::as_writable_bytes(std::span(&next, 1)));
    sampler_.read(1, sampled_++, std::span(&collected, 1));
    EXPECT_EQ(next, collected);
    return next;
  }

 private:
  View allocate(std::uint64_t bytes) { return {device_->allocate(bytes, "test"), 0, bytes}; }

  std::unique_ptr<Device> device_;
  View logits_, maxima_, token_;
  DeviceSampler sampler_;
  Program program_;
  std::uint64_t sampled_ = 0;
};

std::vector<float> random_logits(std::mt19937& random, std::size_t size, float spread) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> logits(size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

/// How often device and CPU choose differently in `steps` tokens, each from new logits. Both go on
/// from the device's choice. The two may differ where a number drawn lies within a rounding error
/// of the border between two tokens.
int differences(const SamplerSettings& settings, std::uint32_t vocab_size, float spread, int steps,
                const Tokenizer* tokenizer = nullptr, std::uint32_t threads = 256,
                Order order = Order::Forward) {
  std::mt19937 random(static_cast<std::uint32_t>(settings.seed));
  Sampler sampler(settings, vocab_size, tokenizer);
  OnDevice device(sampler, vocab_size, threads, order);
  int count = 0;
  for (int step = 0; step < steps; ++step) {
    const std::vector<float> logits = random_logits(random, vocab_size, spread);
    const TokenId expected = sampler.sample(logits);
    const TokenId token = device.sample(logits);
    if (token != expected) ++count;
    sampler.accept(token);
  }
  return count;
}

TEST(GpuSampling, GreedyTakesTheLargestAndOfEqualsTheLowestId) {
  for (const bool biased : {false, true}) {  // from the head's maxima, or from the logits
    SamplerSettings settings = {.temperature = 0.0F};
    if (biased) settings.logit_bias = {{3, -0.5F}};
    const Sampler sampler(settings, 1000, nullptr);
    OnDevice device(sampler, 1000);
    std::vector<float> logits(1000, -1.0F);
    EXPECT_EQ(device.sample(logits), 0U);
    logits[999] = 2.0F;
    EXPECT_EQ(device.sample(logits), 999U);
    logits[700] = logits[64] = logits[63] = 2.0F;
    EXPECT_EQ(device.sample(logits), 63U);
    logits[5] = kNan;
    logits[6] = -kNan;
    EXPECT_EQ(device.sample(logits), 63U);
    std::ranges::fill(logits, -0.0F);
    logits[900] = 0.0F;
    EXPECT_EQ(device.sample(logits), 0U);
  }
}

// Rounded after each addition, their sum tells the order. More than an insertion sort would take.
TEST(GpuSampling, BiasesOfOneTokenAreAddedInTheirOrder) {
  SamplerSettings settings = {.temperature = 0.0F};
  for (int i = 0; i < 60; ++i) {
    settings.logit_bias.emplace_back(7, i < 30 ? 1e8F : -1e8F);
    settings.logit_bias.emplace_back(900 - i, -1.0F);
  }
  settings.logit_bias.emplace_back(7, 0.5F);  // all that is left
  Sampler sampler(settings, 1000, nullptr);
  OnDevice device(sampler, 1000);
  std::vector<float> logits(1000, 0.25F);
  logits[7] = 3.0F;
  EXPECT_EQ(sampler.sample(logits), 7U);
  EXPECT_EQ(device.sample(logits), 7U);
  logits[8] = 0.75F;
  EXPECT_EQ(sampler.sample(logits), 8U);
  EXPECT_EQ(device.sample(logits), 8U);
}

TEST(GpuSampling, DrawsWithTheSequenceOfTheSampler) {
  const std::vector<float> logits(65536, 0.5F);
  const Sampler sampler({.seed = 1234567}, 65536, nullptr);
  OnDevice device(sampler, 65536, 1024);
  for (const TokenId expected : {22942U, 11379U, 34878U, 16318U, 58296U}) {
    EXPECT_EQ(device.sample(logits), expected);
  }
}

const std::vector<SamplerSettings>& many_settings() {
  static const std::vector<SamplerSettings> settings = {
      {},
      {.temperature = 0.0F},
      {.temperature = 0.0F, .presence_penalty = 3.0F},
      {.temperature = 0.0F, .repetition_penalty = 1.7F, .penalty_decay = 0.0F},
      {.temperature = 100.0F},
      {.temperature = 1e-6F},
      {.temperature = 0.01F, .top_p = 0.9F},
      {.top_k = 1},
      {.top_k = 2},
      {.top_k = 40},
      {.top_k = 40, .top_p = 0.5F},
      {.top_k = 1000000},
      {.top_p = 0.01F},
      {.top_p = 0.5F},
      {.top_p = 1e-30F},
      {.top_p = std::nextafter(1.0F, 0.0F)},
      {.min_p = 0.1F},
      {.min_p = 1.0F},
      {.top_p = 0.9F, .min_p = 0.05F},
      {.top_k = 100, .top_p = 0.9F, .min_p = 0.01F},
      {.presence_penalty = 0.4F, .frequency_penalty = 0.4F},
      {.top_p = 0.3F, .presence_penalty = 2.0F, .frequency_penalty = 0.7F, .penalty_decay = 0.9F},
      {.repetition_penalty = 1.3F, .frequency_penalty = -0.5F, .penalty_decay = 0.3F},
      {.top_p = 0.8F, .repetition_penalty = 0.7F, .presence_penalty = 1.0F, .penalty_decay = 1.0F},
      {.logit_bias = {{65, -kInfinity}, {66, 3.0F}, {65, 1.0F}, {7, -1.5F}, {66, -2.5F}}},
      {.top_k = 3, .logit_bias = {{10, kInfinity}, {11, kInfinity}, {12, kInfinity}}},
      {.top_p = 0.95F, .presence_penalty = 0.5F, .logit_bias = {{0, -kInfinity}}},
  };
  return settings;
}

TEST(GpuSampling, EverySettingChoosesWhatTheSamplerChooses) {
  const Tokenizer tokenizer = byte_tokenizer({"ab", "12", " 3"});
  const auto size = static_cast<std::uint32_t>(tokenizer.size());
  for (std::size_t i = 0; i < many_settings().size(); ++i) {
    SamplerSettings settings = many_settings()[i];
    settings.seed = 10 + i;
    EXPECT_EQ(differences(settings, size, 2.0F, 20, &tokenizer), 0) << "settings " << i;
    EXPECT_EQ(differences(settings, 1027, 3.0F, 4), 0) << "settings " << i;
    EXPECT_EQ(differences(settings, size, 0.0F, 3, &tokenizer), 0) << "equal logits, " << i;
  }
}

TEST(GpuSampling, RandomSettingsChooseWhatTheSamplerChooses) {
  std::mt19937 random(77);
  const auto one_of = [&](std::initializer_list<float> values) {
    return std::data(values)[random() % values.size()];
  };
  for (int round = 0; round < 80; ++round) {
    SamplerSettings settings;
    settings.seed = random();
    settings.temperature = one_of({0.0F, 0.3F, 0.8F, 1.0F, 1.0F, 1.7F, 20.0F});
    settings.top_k = static_cast<std::uint32_t>(one_of({0, 0, 0, 2, 5, 64, 300}));
    settings.top_p = one_of({1.0F, 1.0F, 0.99F, 0.8F, 0.3F});
    settings.min_p = one_of({0.0F, 0.0F, 0.01F, 0.2F});
    settings.repetition_penalty = one_of({1.0F, 1.0F, 1.2F});
    settings.presence_penalty = one_of({0.0F, 0.0F, 0.6F});
    settings.frequency_penalty = one_of({0.0F, 0.0F, 0.3F});
    settings.penalty_decay = one_of({0.996F, 0.5F, 0.0F});
    // Few, because a device may take long to compile a kernel for a size.
    const std::uint32_t size = std::array{2U, 57U, 257U, 602U}[random() % 4];
    if (random() % 3 == 0) {
      settings.logit_bias = {{size / 2, one_of({-kInfinity, 2.0F})}, {0, one_of({-1.0F, 1.0F})}};
    }
    EXPECT_EQ(differences(settings, size, one_of({0.01F, 1.0F, 4.0F, 12.0F}), 10), 0)
        << "round " << round << ", " << size << " tokens";
  }
}

// Candidates that fit into thread-group memory, that do when the cut is known roughly, and that
// never do; ids of up to 16 bits, and more.
TEST(GpuSampling, LargeVocabularies) {
  const std::vector<SamplerSettings> all = {
      {.seed = 3},
      {.top_k = 50, .top_p = 0.9F},
      {.top_k = 20000, .min_p = 0.0001F},
      {.top_p = 0.5F, .presence_penalty = 0.5F},
      {.temperature = 3.0F, .top_k = 30000, .top_p = 0.9F},
      {.temperature = 100.0F, .top_p = 0.9F},
      {.temperature = 0.0F},
  };
  for (const std::uint32_t size : {65529U, 66001U}) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(differences(all[i], size, 3.0F, 1, nullptr, 1024), 0) << "settings " << i;
    }
    EXPECT_EQ(differences({.top_p = 0.7F}, size, 0.0F, 1, nullptr, 1024), 0) << "equal logits";
  }
}

TEST(GpuSampling, ThreadsAndTheirOrderDoNotMatter) {
  std::mt19937 random(1);
  std::vector<std::vector<float>> logits;
  for (int i = 0; i < 2; ++i) logits.push_back(random_logits(random, 5000, 2.0F));
  for (const SamplerSettings& settings :
       {SamplerSettings{.frequency_penalty = 0.3F, .logit_bias = {{7, 2.0F}}},
        SamplerSettings{.top_k = 77, .top_p = 0.9F}, SamplerSettings{.top_p = 0.97F},
        SamplerSettings{.min_p = 0.01F}, SamplerSettings{.temperature = 0.0F}}) {
    const Sampler sampler(settings, 5000, nullptr);
    std::vector<TokenId> expected;
    for (const std::uint32_t threads : {32U, 96U, 256U, 1024U}) {
      for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
        if (!test_device_is_emulated() && order != Order::Forward) continue;
        OnDevice device(sampler, 5000, threads, order);
        std::vector<TokenId> tokens;
        for (const std::vector<float>& values : logits) tokens.push_back(device.sample(values));
        if (expected.empty()) expected = tokens;
        EXPECT_EQ(tokens, expected) << threads << " threads";
      }
    }
  }
}

TEST(GpuSampling, InfinitiesAndNansAreOrdinaryLogits) {
  const std::vector<SamplerSettings> settings = {
      {}, {.temperature = 0.0F}, {.top_k = 2}, {.top_p = 0.9F}, {.min_p = 0.5F}};
  std::vector<std::vector<float>> all(7, std::vector<float>(300, -kInfinity));
  all[0][299] = -1e30F;           // all banned but one
  all[1][17] = kNan;              // all banned
  all[2].assign(300, kNan);       //
  all[3].assign(300, 1.0F);       //
  all[3][4] = kInfinity;          // one certain
  all[4].assign(300, kInfinity);  // all as likely
  all[5].assign(300, -1e38F);     // differences that overflow
  all[5][70] = all[5][71] = 1e38F;
  all[6].assign(300, 0.0F);
  for (std::size_t i = 0; i < 300; i += 2) all[6][i] = -0.0F;
  for (const SamplerSettings& setting : settings) {
    Sampler sampler(setting, 300, nullptr);
    OnDevice device(sampler, 300);
    for (const std::vector<float>& logits : all) {
      for (int i = 0; i < 3; ++i) EXPECT_EQ(device.sample(logits), sampler.sample(logits));
    }
  }
}

// Cuts through tokens of the same probability go by id.
TEST(GpuSampling, TiesGoToTheLowerId) {
  std::vector<float> logits(700, 0.0F);
  for (const std::size_t i : {600U, 300U, 256U, 255U, 2U}) logits[i] = 5.0F;
  for (const SamplerSettings& settings :
       {SamplerSettings{.top_k = 3, .seed = 9}, SamplerSettings{.top_p = 0.3F, .seed = 9}}) {
    Sampler sampler(settings, 700, nullptr);
    OnDevice device(sampler, 700);
    std::vector<bool> seen(700);
    for (int i = 0; i < 40; ++i) {
      const TokenId token = device.sample(logits);
      EXPECT_EQ(token, sampler.sample(logits));
      seen[token] = true;
    }
    for (const TokenId token : {2U, 255U, 256U}) EXPECT_TRUE(seen[token]) << token;
    EXPECT_EQ(std::ranges::count(seen, true), 3);
  }
}

// All steps with as few threads as have something to race for: for the thread sanitizer.
TEST(GpuSampling, TwoSimdGroups) {
  std::mt19937 random(5);
  const std::vector<float> logits = random_logits(random, 300, 2.0F);
  const SamplerSettings top_k = {.top_k = 3, .seed = 9};
  const SamplerSettings others = {.top_p = 0.8F,
                                  .min_p = 0.01F,
                                  .presence_penalty = 0.5F,
                                  .logit_bias = {{7, 2.0F}},
                                  .seed = 9};
  for (const SamplerSettings& settings : {top_k, others}) {
    Sampler sampler(settings, 300, nullptr);
    OnDevice device(sampler, 300, 64);
    for (int i = 0; i < 2; ++i) {
      const TokenId token = device.sample(logits);
      EXPECT_EQ(token, sampler.sample(logits));
      sampler.accept(token);
    }
  }
}

TEST(GpuSampling, GoesOnWhereASamplerStands) {
  const SamplerSettings settings = {.top_p = 0.8F,
                                    .presence_penalty = 1.0F,
                                    .frequency_penalty = 1.0F,
                                    .penalty_decay = 0.05F,  // rescales within these tokens
                                    .seed = 5};
  std::mt19937 random(2);
  Sampler sampler(settings, 60, nullptr);
  OnDevice device(sampler, 60);
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 5; ++i) sampler.accept(sampler.sample(random_logits(random, 60, 1.0F)));
    device.start(sampler);
    for (int i = 0; i < 20; ++i) {
      const std::vector<float> logits = random_logits(random, 60, 1.0F);
      const TokenId token = device.sample(logits);
      ASSERT_EQ(token, sampler.sample(logits));
      sampler.accept(token);
    }
  }
}

TEST(GpuSampling, HowOftenRoundingChangesAChoice) {
  const int steps = test_device_is_emulated() ? 200 : 10000;
  int count = 0;
  for (const SamplerSettings& settings :
       {SamplerSettings{.seed = 1}, SamplerSettings{.temperature = 0.8F, .top_p = 0.9F, .seed = 2},
        SamplerSettings{.presence_penalty = 0.4F, .frequency_penalty = 0.4F, .seed = 3},
        SamplerSettings{.top_k = 40, .min_p = 0.02F, .seed = 4}}) {
    count += differences(settings, 1000, 2.0F, steps);
  }
  RecordProperty("differences", count);
  EXPECT_LE(count, 2) << "of " << 4 * steps;
}

TEST(GpuSampling, SupportsWhatItCanDo) {
  EXPECT_TRUE(can_sample({.top_k = 3, .top_p = 0.5F, .min_p = 0.1F}, 65536));
  EXPECT_FALSE(can_sample({.typical_p = 0.9F}, 65536));
  EXPECT_FALSE(can_sample({}, 1 << 20));
  SamplerSettings many;
  many.logit_bias.resize(4096);
  EXPECT_TRUE(can_sample(many, 65536));
  many.logit_bias.resize(4097);
  EXPECT_FALSE(can_sample(many, 65536));
}

}  // namespace
}  // namespace gander::gpu
