#pragma once

#include <cstdint>
#include <string>

#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// Records command buffers into a .gputrace file, which Xcode opens.
class Capture {
 public:
  /// Records nothing.
  Capture() = default;
  /// Will record `submissions` command buffers. Throws Error when the file exists or is not called
  /// .gputrace, or when the process was not started with MTL_CAPTURE_ENABLED=1.
  Capture(std::string path, std::uint32_t submissions);

  bool active() const { return left_ > 0; }
  /// Before a command buffer is made, while active(). Throws Error when Metal does not start.
  void begin_submission(CommandQueue queue);
  /// After it was committed. True when the last one is in: wait for it, then call stop().
  bool end_submission() { return --left_ == 0; }
  /// Finishes the file, if it was begun.
  void stop();

 private:
  std::string path_;
  std::uint32_t left_ = 0;
  bool started_ = false;
};

}  // namespace gander::gpu::metal
