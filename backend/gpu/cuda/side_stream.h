#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>

#include "backend/gpu/cuda/driver.h"

namespace gander::gpu::cuda {

/// Copies between the memories of CPU and GPU while the GPU computes: in a stream of its own,
/// through two page-locked buffers in turn, so that the copy engine fills one while the other is
/// emptied. For threads other than the one that computes; their context is current.
class SideStream {
 public:
  /// Throws Error, naming the call, unless the result is success.
  using Check = std::function<void(Result, std::string_view call)>;

  /// Nothing is made before it is needed.
  SideStream(const Driver& driver, Check check) : driver_(driver), check_(std::move(check)) {}
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  /// What is copied from now on comes after what `stream` has been given by now.
  void wait_for(Stream stream);
  /// Return when the bytes are there.
  void read(Address from, std::span<std::byte> bytes);
  void write(Address to, std::span<const std::byte> bytes);

 private:
  struct Buffer {
    std::byte* memory = nullptr;
    Event copied = nullptr;
  };

  void prepare();
  void prepare_buffers();
  void finish_buffer(const Buffer& buffer) const;

  const Driver& driver_;
  Check check_;
  std::mutex making_;  ///< of the stream and its event
  Stream stream_ = nullptr;
  Event before_ = nullptr;  ///< of the other stream
  std::mutex copying_;      ///< guards the buffers
  std::array<Buffer, 2> buffers_ = {};
};

}  // namespace gander::gpu::cuda
