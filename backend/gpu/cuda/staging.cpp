#include "backend/gpu/cuda/staging.h"

namespace gander::gpu::cuda {

void Staging::prepare(std::uint64_t bytes) {
  if (ready()) return;
  for (Buffer& buffer : buffers_) {
    void* memory = nullptr;
    if (driver_.MemHostAlloc(&memory, bytes, 0) != 0) return release();
    buffer.memory = static_cast<std::byte*>(memory);
    if (driver_.EventCreate(&buffer.copied, kEventDisableTiming) != 0) return release();
  }
  bytes_ = bytes;
}

std::span<std::byte> Staging::take(std::uint64_t bytes) {
  if (used_ + bytes > bytes_) {
    check_(driver_.EventRecord(buffers_[current_].copied, stream_), "cuEventRecord");
    buffers_[current_].recorded = true;
    current_ = 1 - current_;
    used_ = 0;
    if (buffers_[current_].recorded) {
      check_(driver_.EventSynchronize(buffers_[current_].copied), "cuEventSynchronize");
    }
  }
  const std::span<std::byte> place = {buffers_[current_].memory + used_, bytes};
  constexpr std::uint64_t kAlignment = 256;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return place;
}

void Staging::release() {
  for (Buffer& buffer : buffers_) {
    if (buffer.copied != nullptr) driver_.EventDestroy(buffer.copied);
    if (buffer.memory != nullptr) driver_.MemFreeHost(buffer.memory);
    buffer = {};
  }
  bytes_ = used_ = 0;
}

}  // namespace gander::gpu::cuda
