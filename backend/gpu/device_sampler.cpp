#include "backend/gpu/device_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "backend/gpu/buffer_pool.h"

namespace gander::gpu {
namespace {

#include "kernels/sample_parameters.h"

constexpr std::size_t kMaxBiases = 4096;
constexpr std::uint32_t kThreads = 1024;
constexpr std::uint64_t kRingBytes = DeviceSampler::kRing * sizeof(TokenId);

void write(Device& device, const View& view, std::span<const std::byte> bytes) {
  if (!bytes.empty()) device.write(view.part(0, bytes.size()), bytes);
}

// By token, those of one token in the order of the settings: the CPU adds them in that order.
std::vector<LogitBias> sorted_biases(const SamplerSettings& settings) {
  std::vector<std::pair<TokenId, std::size_t>> order;
  order.reserve(settings.logit_bias.size());
  for (const auto& [token, bias] : settings.logit_bias) order.emplace_back(token, order.size());
  std::ranges::sort(order);
  std::vector<LogitBias> biases;
  biases.reserve(order.size());
  for (const auto& [token, place] : order) {
    biases.push_back({token, settings.logit_bias[place].second});
  }
  return biases;
}

SampleSettings kernel_settings(const SamplerSettings& from, std::uint32_t vocab_size,
                               std::uint64_t groups) {
  SampleSettings to = {};
  to.greedy = from.temperature == 0.0F || from.top_k == 1 ? 1 : 0;
  to.inverse_temperature = 1.0F / std::max(from.temperature, 1e-30F);
  to.top_k = from.top_k < vocab_size ? from.top_k : 0;
  if (from.top_p < 1.0F) {
    const auto share = static_cast<std::uint64_t>(std::ldexp(from.top_p, 64));
    // A share of less than 2^-64 leaves the most probable token, as 2^-64 does.
    const std::uint64_t least = std::max<std::uint64_t>(share, 1);
    to.top_p_low = static_cast<std::uint32_t>(least);
    to.top_p_high = static_cast<std::uint32_t>(least >> 32);
  }
  to.min_p = from.min_p;
  to.repetition_penalty = from.repetition_penalty;
  to.presence_penalty = from.presence_penalty;
  to.frequency_penalty = from.frequency_penalty;
  to.penalty_decay = from.penalty_decay;
  const bool neutral = from.repetition_penalty == 1.0F && from.presence_penalty == 0.0F &&
                       from.frequency_penalty == 0.0F;
  to.penalizes = neutral ? 0 : 1;
  to.bias_count = static_cast<std::uint32_t>(from.logit_bias.size());
  to.maxima_count = static_cast<std::uint32_t>(groups);
  to.ring_size = DeviceSampler::kRing;
  return to;
}

}  // namespace

bool DeviceSampler::supports(const SamplerSettings& settings, std::uint32_t vocab_size) {
  return settings.typical_p >= 1.0F && settings.logit_bias.size() <= kMaxBiases &&
         vocab_size <= GANDER_MAX_SAMPLED_VOCABULARY;
}

DeviceSampler::DeviceSampler(Device& device, std::uint32_t vocab_size, const View& logits,
                             const View& maxima, const View& token)
    : device_(device), vocab_size_(vocab_size), logits_(logits), maxima_(maxima), token_(token) {
  BufferPool pool;
  pool.add(settings_, sizeof(SampleSettings));
  pool.add(biases_, kMaxBiases * sizeof(LogitBias));
  pool.add(state_, sizeof(SampleState));
  pool.add(counts_, std::uint64_t{vocab_size} * sizeof(float));
  pool.add(seen_, std::uint64_t{vocab_size} * sizeof(TokenId));
  pool.add(rings_, kRings * kRingBytes);
  pool.allocate(device, "sampling");
}

void DeviceSampler::record(Program& program, const Recorder& recorder, std::uint32_t ring) const {
  const View ids = rings_.part(ring * kRingBytes, kRingBytes);
  // Of the rest little or nothing is touched.
  recorder.record(program, "sample", recorder.config().layers, 0,
                  {in(logits_), in(maxima_), in(settings_), Binding{biases_}, in_out(state_),
                   Binding{counts_}, Binding{seen_}, out(token_), Binding{ids, 0, sizeof(TokenId)}},
                  Launch{.threads = kThreads});
}

void DeviceSampler::start(const SamplerSettings& settings, const SamplerMemory& memory) {
  const SampleSettings values =
      kernel_settings(settings, vocab_size_, maxima_.size / (2 * sizeof(std::uint32_t)));
  write(device_, settings_, std::as_bytes(std::span(&values, 1)));
  const std::vector<LogitBias> biases = sorted_biases(settings);
  write(device_, biases_, std::as_bytes(std::span(biases)));

  SampleState state = {};
  state.random_low = static_cast<std::uint32_t>(memory.random);
  state.random_high = static_cast<std::uint32_t>(memory.random >> 32);
  state.scale = memory.scale;
  state.seen_count = static_cast<std::uint32_t>(memory.seen.size());
  write(device_, state_, std::as_bytes(std::span(&state, 1)));
  std::vector<float> counts(vocab_size_);
  for (std::size_t token = 0; token < counts.size(); ++token) {
    counts[token] = memory.uncounted[token] != 0 ? GANDER_UNCOUNTED : GANDER_UNSEEN;
  }
  for (const TokenId token : memory.seen) counts[token] = memory.counts[token];
  write(device_, counts_, std::as_bytes(std::span(counts)));
  write(device_, seen_, std::as_bytes(memory.seen));
}

void DeviceSampler::read(std::uint32_t ring, std::uint64_t first, std::span<TokenId> tokens) const {
  while (!tokens.empty()) {
    const std::uint64_t place = first % kRing;
    const std::uint64_t count = std::min<std::uint64_t>(tokens.size(), kRing - place);
    const std::uint64_t begin = ring * kRingBytes + place * sizeof(TokenId);
    device_.read(rings_.part(begin, count * sizeof(TokenId)),
                 std::as_writable_bytes(tokens.first(count)));
    tokens = tokens.subspan(count);
    first += count;
  }
}

}  // namespace gander::gpu
