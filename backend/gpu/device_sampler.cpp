#include "backend/gpu/device_sampler.h"

#include <algorithm>

#include "backend/gpu/buffer_pool.h"

namespace gander::gpu {
namespace {

constexpr std::uint32_t kSamplerThreads = 1024;
constexpr std::uint64_t kRingBytes = DeviceSampler::kRing * sizeof(TokenId);

}  // namespace

DeviceSampler::DeviceSampler(Device& device, std::uint32_t vocab_size, const View& logits,
                             const View& maxima, const View& token)
    : device_(device), logits_(logits), maxima_(maxima), token_(token) {
  BufferPool pool;
  memory_.add_to(pool, vocab_size, 1);
  pool.add(rings_, kRings * kRingBytes);
  pool.allocate(device, "sampling");
}

void DeviceSampler::record(Program& program, const Recorder& recorder, std::uint32_t ring) const {
  const View ids = rings_.part(ring * kRingBytes, kRingBytes);
  // Of the rest little or nothing is touched.
  recorder.record(program, "sample", recorder.config().layers, 0,
                  {in(logits_), in(maxima_), in(memory_.settings), Binding{memory_.biases},
                   in_out(memory_.state), Binding{memory_.counts}, Binding{memory_.seen},
                   out(token_), Binding{ids, 0, sizeof(TokenId)}},
                  Launch{.threads = kSamplerThreads});
}

void DeviceSampler::start(const SamplerSettings& settings, const SamplerMemory& memory) {
  const SamplerPlace place = {
      .maxima = static_cast<std::uint32_t>(maxima_.size / (2 * sizeof(std::uint32_t))),
      .ring = kRing};
  memory_.start(device_, place, settings, memory);
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
