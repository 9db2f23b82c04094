#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// Why a command buffer failed.
struct CommandFailure {
  std::uint64_t number = 0;  ///< the submission, 1, 2, ...
  std::string reason;        ///< what happened and what to do about it
};

/// The command buffers that have run, told by their completion handlers, which Metal calls on a
/// thread of its own. They run one after the other, so a count says which.
class Completions {
 public:
  /// The handler. Allocates nothing unless the command buffer failed.
  void completed(CommandBuffer command_buffer);

  /// Returns when `number` command buffers have run, failed ones included.
  void wait(std::uint64_t number);
  /// The first failure, if there was one.
  std::optional<CommandFailure> failure() const;
  /// How long the GPU took for all that have run.
  double gpu_seconds() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t count_ = 0;
  double gpu_seconds_ = 0;
  std::optional<CommandFailure> failure_;
};

/// What the device's one Block calls. It shares the counts, so that a handler that is still
/// returning when the device is gone touches nothing that is.
struct CompletionHandler {
  std::shared_ptr<Completions> completions;

  void operator()(Object command_buffer) const { completions->completed({command_buffer}); }
};

}  // namespace gander::gpu::metal
