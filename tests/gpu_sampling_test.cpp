#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/gpu/device_sampler.h"
#include "backend/gpu/emulated/emulated_device.h"
#include "engine/sampler.h"
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
      : device_(open_emulated_device(order)),
        logits_(allocate(vocab_size * sizeof(float))),
        maxima_(allocate((vocab_size + kHeadRows - 1) / kHeadRows * 2 * sizeof(std::uint32_t))),
        token_(allocate(sizeof(TokenId))),
        sampler_(*device_, vocab_size, logits_, maxima_, token_) {
    Config config;
    config.vocab_size = vocab_size;
    const Recorder recorder(*device_, config);
    sampler_.record(program_, recorder, 1);
    program_.dispatches[0].threads = threads;
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
/// from the device's choice.
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

TEST(GpuSampling, DrawsWithTheSequenceOfTheSampler) {
  const std::vector<float> logits(65536, 0.5F);
  const Sampler sampler({.seed = 1234567}, 65536, nullptr);
  OnDevice device(sampler, 65536, 1024);
  for (const TokenId expected : {22942U, 11379U, 34878U, 16318U, 58296U}) {
    EXPECT_EQ(device.sample(logits), expected);
  }
}

TEST(GpuSampling, EverySettingChoosesWhatTheSamplerChooses) {
  const Tokenizer tokenizer = byte_tokenizer({"ab", "12", " 3"});
  const std::vector<SamplerSettings> all = {
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
  for (std::size_t i = 0; i < all.size(); ++i) {
    SamplerSettings settings = all[i];
    settings.seed = 10 + i;
    const auto size = static_cast<std::uint32_t>(tokenizer.size());
    EXPECT_EQ(differences(settings, size, 2.0F, 40, &tokenizer), 0) << "settings " << i;
    EXPECT_EQ(differences(settings, 1027, 3.0F, 10), 0) << "settings " << i;
    EXPECT_EQ(differences(settings, size, 0.0F, 5, &tokenizer), 0) << "equal logits, " << i;
  }
}

}  // namespace
}  // namespace gander::gpu
