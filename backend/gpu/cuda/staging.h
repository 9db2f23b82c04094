#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "backend/gpu/cuda/driver.h"

namespace gander::gpu::cuda {

/// Page-locked memory of the CPU that the GPU copies from by itself: two buffers in turn, so that
/// one is filled while the other is copied. Small pieces share a buffer.
class Staging {
 public:
  /// Throws Error, naming the call, unless the result is success.
  using Check = std::function<void(Result, std::string_view call)>;

  Staging(const Driver& driver, Stream stream, Check check)
      : driver_(driver), stream_(stream), check_(std::move(check)) {}
  ~Staging() { release(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Locks the memory, each buffer with so many bytes. Not a reason to fail when it cannot be had:
  /// ready() is false then.
  void prepare(std::uint64_t bytes);
  bool ready() const { return bytes_ > 0; }

  /// So many bytes, at most those of a buffer: to be written, and copied from, until the next call.
  /// Waits for what was copied from there before. Throws Error.
  std::span<std::byte> take(std::uint64_t bytes);

  /// Gives everything back; nothing of it may be being copied.
  void release();

 private:
  struct Buffer {
    std::byte* memory = nullptr;
    Event copied = nullptr;  ///< recorded when the other buffer's turn came
    bool recorded = false;
  };

  const Driver& driver_;
  Stream stream_;
  Check check_;
  std::array<Buffer, 2> buffers_ = {};
  std::uint64_t bytes_ = 0;  ///< of a buffer
  std::uint64_t used_ = 0;   ///< of the current one
  std::size_t current_ = 0;
};

}  // namespace gander::gpu::cuda
