#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "backend/gpu/device.h"
#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// Writes dispatches into one concurrent compute encoder, which remembers what is bound from one
/// dispatch to the next: only what differs is said again.
class DispatchEncoder {
 public:
  /// Buffers and pipelines are indexed by View::buffer and Dispatch::pipeline.
  DispatchEncoder(ComputeEncoder encoder, std::span<const Retained<Buffer>> buffers,
                  std::span<const Retained<PipelineState>> pipelines)
      : encoder_(encoder), buffers_(buffers), pipelines_(pipelines) {}

  void encode(const Dispatch& dispatch);

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  static constexpr std::size_t kSlots = 31;  // Metal's buffer indices
  struct Bound {
    std::uint32_t buffer = kNone;
    std::uint64_t offset = 0;
  };

  void bind(const View& view, std::size_t index);

  ComputeEncoder encoder_;
  std::span<const Retained<Buffer>> buffers_;
  std::span<const Retained<PipelineState>> pipelines_;
  std::uint32_t pipeline_ = kNone;
  std::uint32_t group_memory_ = 0;
  bool first_ = true;
  std::array<Bound, kSlots> bound_;
};

}  // namespace gander::gpu::metal
