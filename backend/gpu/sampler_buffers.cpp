#include "backend/gpu/sampler_buffers.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace gander::gpu {
namespace {

#include "kernels/sample_parameters.h"

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
                               const SamplerPlace& place) {
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
  to.maxima_count = place.maxima;
  to.ring_size = place.ring;
  return to;
}

// Writes to the place's part of a view that has `unit` elements for each.
template <typename Element>
void write(Device& device, const View& view, const SamplerPlace& place, std::uint64_t unit,
           std::span<const Element> elements) {
  const std::uint64_t begin = place.slot * unit * sizeof(Element);
  const auto bytes = std::as_bytes(elements);
  if (!bytes.empty()) device.write(view.part(begin, bytes.size()), bytes);
}

}  // namespace

bool can_sample(const SamplerSettings& settings, std::uint32_t vocab_size) {
  return settings.typical_p >= 1.0F && settings.logit_bias.size() <= GANDER_MAX_BIASES &&
         vocab_size <= GANDER_MAX_SAMPLED_VOCABULARY;
}

void SamplerBuffers::add_to(BufferPool& pool, std::uint32_t vocab_size, std::uint32_t slots) {
  const std::uint64_t tokens = std::uint64_t{slots} * vocab_size;
  pool.add(settings, slots * sizeof(SampleSettings));
  pool.add(biases, slots * GANDER_MAX_BIASES * sizeof(LogitBias));
  pool.add(state, slots * sizeof(SampleState));
  pool.add(counts, tokens * sizeof(float));
  pool.add(seen, tokens * sizeof(TokenId));
}

void SamplerBuffers::start(Device& device, const SamplerPlace& place,
                           const SamplerSettings& settings_of, const SamplerMemory& memory) const {
  const std::size_t vocab_size = memory.uncounted.size();
  const SampleSettings values =
      kernel_settings(settings_of, static_cast<std::uint32_t>(vocab_size), place);
  write(device, settings, place, 1, std::span(&values, 1));
  const std::vector<LogitBias> sorted = sorted_biases(settings_of);
  write(device, biases, place, GANDER_MAX_BIASES, std::span(sorted));

  SampleState begin = {};
  begin.random_low = static_cast<std::uint32_t>(memory.random);
  begin.random_high = static_cast<std::uint32_t>(memory.random >> 32);
  begin.scale = memory.scale;
  begin.seen_count = static_cast<std::uint32_t>(memory.seen.size());
  write(device, state, place, 1, std::span<const SampleState>(&begin, 1));
  if (values.penalizes == 0) return;
  std::vector<float> numbers(vocab_size);
  for (std::size_t token = 0; token < vocab_size; ++token) {
    numbers[token] = memory.uncounted[token] != 0 ? GANDER_UNCOUNTED : GANDER_UNSEEN;
  }
  for (const TokenId token : memory.seen) numbers[token] = memory.counts[token];
  write(device, counts, place, vocab_size, std::span<const float>(numbers));
  write(device, seen, place, vocab_size, memory.seen);
}

}  // namespace gander::gpu
