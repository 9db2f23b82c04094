#pragma once

#include <cstdint>
#include <span>

#include "backend/generator.h"
#include "backend/gpu/recorder.h"
#include "backend/gpu/sampler_buffers.h"
#include "backend/sampling.h"

namespace gander::gpu {

/// The last dispatch of a token's program when the device chooses tokens itself, and the memory it
/// works on: settings, penalties, the random sequence, and the ids that the CPU collects.
class DeviceSampler {
 public:
  /// Tokens that can be sampled into a ring before the first of them is read.
  static constexpr std::uint32_t kRing = Generator::kMaxBlock;
  /// One is read while the device fills the other.
  static constexpr std::uint32_t kRings = Generator::kMaxQueued;

  /// Samples from `logits` [V], which it changes, with the head's partial `maxima`. `token` (uint)
  /// receives each choice.
  DeviceSampler(Device& device, std::uint32_t vocab_size, const View& logits, const View& maxima,
                const View& token);

  /// Appends the dispatch that puts its choice into `ring`. It is the same for all settings.
  void record(Program& program, const Recorder& recorder, std::uint32_t ring) const;

  /// Takes over from a sampler that stands at `memory`. Nothing may be running.
  void start(const SamplerSettings& settings, const SamplerMemory& memory);
  /// Reads ids from `ring`: the first is the choice number `first` since start(). All have been
  /// made.
  void read(std::uint32_t ring, std::uint64_t first, std::span<TokenId> tokens) const;

 private:
  Device& device_;
  View logits_, maxima_, token_;
  SamplerBuffers memory_;
  View rings_;
};

}  // namespace gander::gpu
