#include "backend/gpu/recording_device.h"

#include <algorithm>

namespace gander::gpu {

std::uint32_t RecordingDevice::allocate(std::uint64_t bytes, std::string_view /*label*/) {
  allocated_ += bytes;
  return buffers_++;
}

std::uint32_t RecordingDevice::wrap(std::span<const std::byte> pages, std::string_view /*label*/) {
  wrapped_ += pages.size();
  return buffers_++;
}

void RecordingDevice::write(const View& /*view*/, std::span<const std::byte> /*bytes*/) {}

void RecordingDevice::read(const View& /*view*/, std::span<std::byte> bytes) const {
  std::ranges::fill(bytes, std::byte{0});
}

void RecordingDevice::fill(std::span<const View> views, const Produce& /*produce*/) {
  fill_bytes(views);
}

PipelineInfo RecordingDevice::pipeline(std::string_view function,
                                       std::span<const FunctionConstant> /*constants*/) {
  kernels_.emplace(function);
  return {0, info_.max_threads};
}

std::uint64_t RecordingDevice::submit(std::span<const Dispatch> dispatches) {
  counters_.dispatches += dispatches.size();
  counters_.barriers += static_cast<std::uint64_t>(
      std::ranges::count_if(dispatches, [](const Dispatch& d) { return d.barrier; }));
  return ++counters_.submissions;
}

void RecordingDevice::wait(std::uint64_t number) {
  if (number <= waited_) return;
  waited_ = number;
  ++counters_.waits;
}

DeviceInfo apple_gpu() {
  return {.name = "an Apple GPU",
          .max_threads = 1024,
          .max_group_memory = 32 << 10,
          .max_buffer_bytes = std::uint64_t{4} << 30,
          .working_set_bytes = 0,
          .cores = 0,
          .wraps_memory = true,
          .page_bytes = 16 << 10,
          .device_fences = true};
}

}  // namespace gander::gpu
