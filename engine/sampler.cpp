#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <string_view>

#include "base/error.h"

// V is 65,536 and everything here must take a fraction of the time of a forward pass, so nothing is
// sorted. Passes over all logits are loops over lanes that vectorise; what could be kept is found
// by bounds from them; and each selection (top-k, top-p, typical) is one search for the last
// element that stays, by a radix histogram over an integer key, in O(n). Candidates stay in the
// order of their ids, so the draw does not depend on how a library partitions.
namespace gander {
namespace {

constexpr std::size_t kBlockLanes = 32;
constexpr std::size_t kBlock = 64;
constexpr std::uint64_t kRandomStep = 0x9e3779b97f4a7c15U;  // of SplitMix64
constexpr float kFinite = std::numeric_limits<float>::max();

void check(bool good, const char* name, double value, const char* range) {
  if (!good) fail("{} is {}; it must be {}", name, value, range);
}

float finite(float value) {
  value = value >= -kFinite ? value : -kFinite;  // NaN too
  return value <= kFinite ? value : kFinite;
}

/// An integer that orders like the float does.
std::uint32_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0F);  // -0 is 0
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// The logarithm of a weight, brought into the range of exp_of_log: -88 and below, and NaN (an
/// infinity less an infinity), mean no weight at all.
inline float bounded(float log_weight) {
  return log_weight > -88.0F ? log_weight : -88.0F;
}

/// e^x for -88 <= x <= 0, to about 2 units in the last place; 0 below -87.7. Written out because a
/// loop over it vectorises and std::exp's does not.
/// e^x = 2^n e^f with n = round(x / ln 2) and f = x - n ln 2, |f| <= ln 2 / 2: a Taylor polynomial.
/// n = -127 has the exponent bits of 0.
inline float exp_of_log(float x) {
  const float shifted = x * 1.44269504F + 12582912.0F;  // 1.5 * 2^23: the sum rounds to an integer
  const float n = shifted - 12582912.0F;
  const float f = (x - n * 0.693359375F) + n * 2.12194440e-4F;  // ln 2 in two parts
  float p = 1.0F / 720.0F;
  p = p * f + 1.0F / 120.0F;
  p = p * f + 1.0F / 24.0F;
  p = p * f + 1.0F / 6.0F;
  p = p * f + 0.5F;
  p = p * f + 1.0F;
  p = p * f + 1.0F;
  const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) - 0x4b400000;
  return p * std::bit_cast<float>((exponent + 127) << 23);
}

}  // namespace

void check_sampling(const SamplerSettings& settings, std::uint32_t vocab_size) {
  if (vocab_size == 0) fail("a sampler needs a vocabulary of at least one token");
  const auto within = [](float value, float low, float high) {  // false for NaN
    return value >= low && value <= high;
  };
  check(within(settings.temperature, 0, 100), "temperature", settings.temperature,
        "from 0 (greedy) to 100");
  check(within(settings.top_p, 0, 1) && settings.top_p > 0, "top-p", settings.top_p,
        "above 0 and at most 1 (off)");
  check(within(settings.min_p, 0, 1), "min-p", settings.min_p, "from 0 (off) to 1");
  check(within(settings.typical_p, 0, 1) && settings.typical_p > 0, "typical-p", settings.typical_p,
        "above 0 and at most 1 (off)");
  check(within(settings.repetition_penalty, 0, 100) && settings.repetition_penalty > 0,
        "repetition penalty", settings.repetition_penalty, "above 0 and at most 100 (1: off)");
  check(within(settings.presence_penalty, -100, 100), "presence penalty", settings.presence_penalty,
        "from -100 to 100 (0: off)");
  check(within(settings.frequency_penalty, -100, 100), "frequency penalty",
        settings.frequency_penalty, "from -100 to 100 (0: off)");
  check(within(settings.penalty_decay, 0, 1), "penalty decay", settings.penalty_decay,
        "from 0 to 1 (no decay)");
  for (const auto& [token, bias] : settings.logit_bias) {
    if (token >= vocab_size) {
      fail("logit bias for token {}: the model has only {} tokens", token, vocab_size);
    }
    check(!std::isnan(bias), "a logit bias", bias, "a number");
  }
}

Sampler::Sampler(SamplerSettings settings, std::uint32_t vocab_size, const Tokenizer* tokenizer)
    : vocab_size_(vocab_size) {
  const std::size_t blocks = (vocab_size + kBlock - 1) / kBlock;
  logits_.resize(blocks * kBlock, -kFinite);
  weights_.resize(blocks * kBlock);
  block_largest_.resize(blocks);
  block_scratch_.resize(blocks);
  block_sums_.resize(blocks);
  candidates_.reserve(vocab_size);
  counts_.resize(vocab_size);
  is_seen_.resize(vocab_size);
  seen_.reserve(vocab_size);
  histogram_.resize(std::size_t{1} << 11);
  uncounted_.resize(vocab_size);
  if (tokenizer != nullptr) {
    for (TokenId token = 0; token < vocab_size; ++token) {
      const std::string_view bytes = tokenizer->bytes(token);
      const bool is_counted =
          bytes.empty() || bytes.find_first_not_of(" \t0123456789") != std::string_view::npos;
      uncounted_[token] = is_counted ? 0 : 1;
    }
  }
  restart(std::move(settings));
}

void Sampler::restart(SamplerSettings settings) {
  check_sampling(settings, vocab_size_);
  settings_ = std::move(settings);
  inverse_temperature_ = 1.0F / std::max(settings_.temperature, 1e-30F);
  reset();
}

void Sampler::reset() {
  forget();
  reseed(settings_.seed);
}

void Sampler::forget() {
  for (const TokenId token : seen_) {
    counts_[token] = 0.0F;
    is_seen_[token] = false;
  }
  seen_.clear();
  scale_ = 1.0F;
}

void Sampler::reseed(std::uint64_t seed) {
  random_ = seed;
}

/// Uniform in [0, 1): the upper 53 bits of SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
double Sampler::uniform() {
  random_ += kRandomStep;
  std::uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

void Sampler::accept(TokenId token) {
  scale_ *= settings_.penalty_decay;
  if (scale_ < 1e-18F) {  // before the stored counts overflow; with decay 0 every token
    for (const TokenId seen : seen_) counts_[seen] *= scale_;
    scale_ = 1.0F;
  }
  if (token >= vocab_size_ || uncounted_[token] != 0) return;
  if (!is_seen_[token]) {
    is_seen_[token] = true;
    seen_.push_back(token);
  }
  counts_[token] += 1.0F / scale_;
}

void Sampler::follow(TokenId token) {
  if (!is_greedy()) random_ += kRandomStep;
  accept(token);
}

TokenId Sampler::sample(std::span<const float> logits) {
  adjust_logits(logits);
  if (is_greedy()) {
    const auto block = std::ranges::find(block_largest_, largest_) - block_largest_.begin();
    const auto begin = logits_.begin() + block * static_cast<std::ptrdiff_t>(kBlock);
    return static_cast<TokenId>(std::find(begin, logits_.end(), largest_) - logits_.begin());
  }
  if (settings_.top_k > 0 && settings_.top_k < vocab_size_) {
    keep_top_k();
    keep_top_p(total_weight());
  } else {
    const double total = compute_weights();
    if (settings_.top_p < 1.0F) {
      // Tokens lighter than the average of what top-p drops, (1 - top_p) total / V, together weigh
      // less than all it drops, so they are among it.
      gather_heavy(static_cast<float>((1.0 - settings_.top_p) * total / vocab_size_ * 0.999));
      keep_top_p(total);
    } else if (settings_.min_p > 0.0F || settings_.typical_p < 1.0F) {
      gather_heavy(settings_.min_p);
    } else {
      return draw_from_all(total);
    }
  }
  keep_min_p();
  keep_typical();
  return draw_from_candidates();
}

/// Sets logits_ to the logits with bias and penalties, all finite, and block_largest_ and largest_.
void Sampler::adjust_logits(std::span<const float> logits) {
  const std::size_t count = std::min<std::size_t>(logits.size(), vocab_size_);
  for (std::size_t i = 0; i < count; ++i) logits_[i] = finite(logits[i]);
  for (const auto& [token, bias] : settings_.logit_bias) {
    logits_[token] = finite(logits_[token] + bias);
  }
  apply_penalties();
  for (std::size_t block = 0; block < block_largest_.size(); ++block) {
    const float* values = &logits_[block * kBlock];
    float lanes[kBlockLanes];
    std::copy_n(values, kBlockLanes, lanes);
    for (std::size_t i = kBlockLanes; i < kBlock; i += kBlockLanes) {
      for (std::size_t lane = 0; lane < kBlockLanes; ++lane) {
        lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
      }
    }
    block_largest_[block] = *std::max_element(lanes, lanes + kBlockLanes);
  }
  largest_ = *std::ranges::max_element(block_largest_);
}

void Sampler::apply_penalties() {
  const SamplerSettings& s = settings_;
  if (s.repetition_penalty == 1.0F && s.presence_penalty == 0.0F && s.frequency_penalty == 0.0F) {
    return;
  }
  for (const TokenId token : seen_) {
    float& logit = logits_[token];
    logit = logit > 0.0F ? logit / s.repetition_penalty : logit * s.repetition_penalty;
    logit = finite(logit - (s.presence_penalty + counts_[token] * scale_ * s.frequency_penalty));
  }
}

float Sampler::log_weight(float logit) const {
  return (logit - largest_) * inverse_temperature_;
}

/// Fills weights_ and block_sums_; returns the sum of all.
double Sampler::compute_weights() {
  // In registers: the loop's stores could change members, as far as the compiler knows.
  const float largest = largest_;
  const float inverse_temperature = inverse_temperature_;
  for (std::size_t block = 0; block < block_sums_.size(); ++block) {
    const float* values = &logits_[block * kBlock];
    float* weights = &weights_[block * kBlock];
    // Two loops: a bound in the same loop becomes a branch, which cannot be vectorised.
    for (std::size_t i = 0; i < kBlock; ++i) {
      weights[i] = bounded((values[i] - largest) * inverse_temperature);
    }
    for (std::size_t i = 0; i < kBlock; ++i) weights[i] = exp_of_log(weights[i]);
    float lanes[kBlockLanes] = {};
    for (std::size_t i = 0; i < kBlock; i += kBlockLanes) {
      for (std::size_t lane = 0; lane < kBlockLanes; ++lane) lanes[lane] += weights[i + lane];
    }
    double sum = 0.0;
    for (const float lane : lanes) sum += lane;
    block_sums_[block] = sum;
  }
  if (largest_ == -kFinite) {  // then the padding of the last block weighs as much as the rest
    std::fill(weights_.begin() + vocab_size_, weights_.end(), 0.0F);
    const std::size_t padding = weights_.size() - vocab_size_;
    block_sums_.back() = static_cast<double>(kBlock - padding);
  }
  double total = 0.0;
  for (const double sum : block_sums_) total += sum;
  return total;
}

/// Collects the tokens of at least this weight (and above 0).
void Sampler::gather_heavy(float least) {
  candidates_.clear();
  for (std::size_t block = 0; block < block_sums_.size(); ++block) {
    if (block_sums_[block] < least || block_sums_[block] == 0.0) continue;
    const std::size_t end = std::min<std::size_t>((block + 1) * kBlock, vocab_size_);
    for (std::size_t i = block * kBlock; i < end; ++i) {
      if (weights_[i] < least || weights_[i] == 0.0F) continue;
      candidates_.push_back({static_cast<TokenId>(i), weights_[i], ~ordered(logits_[i])});
    }
  }
}

void Sampler::keep_top_k() {
  // The k-th largest of the blocks' largest logits is no more than the k-th largest logit.
  float least = -kFinite;
  if (settings_.top_k <= block_largest_.size()) {
    block_scratch_ = block_largest_;
    const auto kth = block_scratch_.begin() + (settings_.top_k - 1);
    std::nth_element(block_scratch_.begin(), kth, block_scratch_.end(), std::greater<>());
    least = *kth;
  }
  candidates_.clear();
  for (std::size_t block = 0; block < block_largest_.size(); ++block) {
    if (block_largest_[block] < least) continue;
    const std::size_t end = std::min<std::size_t>((block + 1) * kBlock, vocab_size_);
    for (std::size_t i = block * kBlock; i < end; ++i) {
      if (logits_[i] < least) continue;
      candidates_.push_back({static_cast<TokenId>(i), 0.0F, ~ordered(logits_[i])});
    }
  }
  keep_until(find_cut(settings_.top_k, [](const Candidate&) { return 1.0; }));
  for (Candidate& candidate : candidates_) {
    candidate.weight = exp_of_log(bounded(log_weight(logits_[candidate.token])));
  }
}

/// Keeps the fewest of the most probable tokens whose share of `total` reaches top_p.
void Sampler::keep_top_p(double total) {
  if (settings_.top_p >= 1.0F) return;
  keep_until(find_cut(settings_.top_p * total, [](const Candidate& c) { return c.weight; }));
}

void Sampler::keep_min_p() {
  if (settings_.min_p <= 0.0F) return;
  // The most probable token is always left, with weight 1.
  std::erase_if(candidates_, [this](const Candidate& c) { return c.weight < settings_.min_p; });
}

/// Locally typical sampling (Meister and others, 2022): keeps the fewest tokens whose surprisal
/// -ln p is closest to the entropy and whose share reaches typical_p.
void Sampler::keep_typical() {
  if (settings_.typical_p >= 1.0F) return;
  const double total = total_weight();
  double weighted_logs = 0.0;
  for (const Candidate& c : candidates_) {
    if (c.weight > 0.0F) weighted_logs += c.weight * double{log_weight(logits_[c.token])};
  }
  // p = w / total, so -ln p = ln total - ln w and the entropy is ln total - sum(w ln w) / total:
  // their distance is that of ln w from its mean.
  const auto mean = static_cast<float>(weighted_logs / total);
  for (Candidate& c : candidates_) {
    c.key = ordered(std::fabs(log_weight(logits_[c.token]) - mean));
  }
  keep_until(find_cut(settings_.typical_p * total, [](const Candidate& c) { return c.weight; }));
}

double Sampler::total_weight() const {
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += candidate.weight;
  return total;
}

/// The candidate with which the sum of weigh(candidate), in the order by key and then by token,
/// reaches `target`; the last one if rounding keeps it from doing so.
template <typename Weigh>
Sampler::Cut Sampler::find_cut(double target, Weigh weigh) {
  Cut cut{0, 0};
  double before = 0.0;  // of all candidates that come before those with the key's upper bits
  std::uint32_t mask = 0;
  for (const int shift : {21, 10, 0}) {
    const std::uint32_t buckets = 1U << (shift == 0 ? 10 : 11);
    std::fill_n(histogram_.begin(), buckets, 0.0);
    for (const Candidate& c : candidates_) {
      if ((c.key & mask) == cut.key) histogram_[(c.key >> shift) & (buckets - 1)] += weigh(c);
    }
    std::uint32_t chosen = 0;
    double before_chosen = before;
    for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
      if (histogram_[bucket] == 0.0) continue;
      chosen = bucket;
      before_chosen = before;
      before += histogram_[bucket];
      if (before >= target) break;
    }
    before = before_chosen;
    cut.key |= chosen << shift;
    mask |= (buckets - 1) << shift;
  }
  for (const Candidate& c : candidates_) {
    if (c.key != cut.key) continue;
    cut.token = c.token;
    before += weigh(c);
    if (before >= target) break;
  }
  return cut;
}

void Sampler::keep_until(Cut cut) {
  std::erase_if(candidates_, [cut](const Candidate& c) {
    return c.key > cut.key || (c.key == cut.key && c.token > cut.token);
  });
}

TokenId Sampler::draw_from_all(double total) {
  double rest = uniform() * total;
  std::size_t block = 0;
  while (block + 1 < block_sums_.size() && rest >= block_sums_[block]) rest -= block_sums_[block++];
  TokenId last = 0;  // with a weight: rounding may leave a little of `rest`
  for (std::size_t i = block * kBlock; i < vocab_size_; ++i) {
    if (weights_[i] == 0.0F) continue;
    last = static_cast<TokenId>(i);
    rest -= weights_[i];
    if (rest < 0.0) break;
  }
  return last;
}

TokenId Sampler::draw_from_candidates() {
  double rest = uniform() * total_weight();
  TokenId last = 0;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0.0F) continue;
    last = candidate.token;
    rest -= candidate.weight;
    if (rest < 0.0) break;
  }
  return last;
}

}  // namespace gander
