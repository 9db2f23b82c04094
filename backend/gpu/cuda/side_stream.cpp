#include "backend/gpu/cuda/side_stream.h"

#include <algorithm>
#include <cstring>

namespace gander::gpu::cuda {
namespace {

// Small copies of the thread that computes wait for a buffer at most: 20 µs.
constexpr std::size_t kSideBytes = std::size_t{1} << 20;

}  // namespace

SideStream::~SideStream() {
  if (stream_ != nullptr) driver_.StreamSynchronize(stream_);
  for (const Buffer& buffer : buffers_) {
    if (buffer.copied != nullptr) driver_.EventDestroy(buffer.copied);
    if (buffer.memory != nullptr) driver_.MemFreeHost(buffer.memory);
  }
  if (before_ != nullptr) driver_.EventDestroy(before_);
  if (stream_ != nullptr) driver_.StreamDestroy(stream_);
}

void SideStream::prepare() {
  const std::lock_guard lock(making_);
  if (before_ != nullptr) return;
  if (stream_ == nullptr)
    check_(driver_.StreamCreate(&stream_, kStreamNonBlocking), "cuStreamCreate");
  check_(driver_.EventCreate(&before_, kEventDisableTiming), "cuEventCreate");
}

void SideStream::prepare_buffers() {
  for (Buffer& buffer : buffers_) {
    if (buffer.memory == nullptr) {
      void* memory = nullptr;
      check_(driver_.MemHostAlloc(&memory, kSideBytes, 0), "cuMemHostAlloc");
      buffer.memory = static_cast<std::byte*>(memory);
    }
    if (buffer.copied == nullptr) {
      check_(driver_.EventCreate(&buffer.copied, kEventDisableTiming), "cuEventCreate");
    }
  }
}

void SideStream::wait_for(Stream stream) {
  prepare();
  check_(driver_.EventRecord(before_, stream), "cuEventRecord");
}

void SideStream::finish_buffer(const Buffer& buffer) const {
  check_(driver_.EventSynchronize(buffer.copied), "cuEventSynchronize");
}

void SideStream::read(Address from, std::span<std::byte> bytes) {
  prepare();
  const std::lock_guard lock(copying_);
  prepare_buffers();
  check_(driver_.StreamWaitEvent(stream_, before_, 0), "cuStreamWaitEvent");
  std::span<std::byte> coming;  // what the other buffer is being filled for
  for (std::size_t i = 0; !bytes.empty() || !coming.empty(); i = 1 - i) {
    const std::span<std::byte> part = bytes.first(std::min(bytes.size(), kSideBytes));
    if (!part.empty()) {
      check_(driver_.MemcpyDtoHAsync(buffers_[i].memory, from, part.size(), stream_),
             "cuMemcpyDtoHAsync");
      check_(driver_.EventRecord(buffers_[i].copied, stream_), "cuEventRecord");
    }
    if (!coming.empty()) {
      finish_buffer(buffers_[1 - i]);
      std::memcpy(coming.data(), buffers_[1 - i].memory, coming.size());
    }
    coming = part;
    bytes = bytes.subspan(part.size());
    from += part.size();
  }
}

void SideStream::write(Address to, std::span<const std::byte> bytes) {
  prepare();
  const std::lock_guard lock(copying_);
  prepare_buffers();
  check_(driver_.StreamWaitEvent(stream_, before_, 0), "cuStreamWaitEvent");
  for (std::size_t i = 0; !bytes.empty(); ++i) {
    const Buffer& buffer = buffers_[i % 2];
    if (i >= 2) finish_buffer(buffer);
    const std::size_t count = std::min(bytes.size(), kSideBytes);
    std::memcpy(buffer.memory, bytes.data(), count);
    check_(driver_.MemcpyHtoDAsync(to, buffer.memory, count, stream_), "cuMemcpyHtoDAsync");
    check_(driver_.EventRecord(buffer.copied, stream_), "cuEventRecord");
    bytes = bytes.subspan(count);
    to += count;
  }
  check_(driver_.StreamSynchronize(stream_), "cuStreamSynchronize");
}

}  // namespace gander::gpu::cuda
