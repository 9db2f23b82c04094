#pragma once

#include <cstdint>

#include "backend/gpu/buffer_pool.h"
#include "backend/gpu/device.h"
#include "backend/sampling.h"

namespace gander::gpu {

/// Whether the device can do what these settings ask: all but typical-p, and a bias for at most
/// 4,096 tokens.
bool can_sample(const SamplerSettings& settings, std::uint32_t vocab_size);

/// A sampler among those of SamplerBuffers.
struct SamplerPlace {
  std::uint32_t slot = 0;
  std::uint32_t maxima = 0;  ///< that the head leaves; 0: none
  std::uint32_t ring = 0;    ///< tokens of the ring it writes to, a power of 2; 0: none
};

/// What the kernels that sample work on: settings, penalties and the random sequence of each of
/// some sequences (kernels/sample_parameters.h).
struct SamplerBuffers {
  View settings;  ///< SampleSettings [slots]
  View biases;    ///< LogitBias [slots][GANDER_MAX_BIASES]
  View state;     ///< SampleState [slots]
  View counts;    ///< float [slots][V]
  View seen;      ///< uint [slots][V]

  void add_to(BufferPool& pool, std::uint32_t vocab_size, std::uint32_t slots);
  /// Takes over from a sampler that stands at `memory`, for settings that can_sample() allows.
  /// Without penalties nothing counts occurrences. Nothing that uses the place may be running.
  void start(Device& device, const SamplerPlace& place, const SamplerSettings& settings_of,
             const SamplerMemory& memory) const;
};

}  // namespace gander::gpu
