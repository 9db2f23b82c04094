#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "backend/gpu/device.h"
#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// The command buffers that are under way, and what their completion handlers told of them. Metal
/// calls those on a thread of its own; command buffers run one after the other, so a count says
/// which have. The thread that submits takes no lock.
class Completions {
 public:
  /// So many command buffers may be under way.
  static constexpr std::uint64_t kMaxUnderWay = 64;

  /// Before command buffer `number` (1, 2, ...) is committed, and after number - kMaxUnderWay has
  /// run: what is in it.
  void expect(std::uint64_t number, std::span<const Dispatch> dispatches) {
    under_way_[number % kMaxUnderWay] = dispatches;
  }
  /// The handler. Allocates nothing unless the command buffer failed.
  void completed(CommandBuffer command_buffer);

  /// Returns when `number` command buffers have run, failed ones included.
  void wait(std::uint64_t number) const;
  /// Throws Error when one of them failed: with which, why, and what to do about it.
  void throw_failure() const;
  /// How long the GPU took for all that have run.
  double gpu_seconds() const { return gpu_seconds_.load(std::memory_order_relaxed); }

 private:
  std::mutex handlers_;  // handlers against each other: Metal does not promise that they take turns
  std::atomic<std::uint64_t> count_ = 0;
  std::atomic<double> gpu_seconds_ = 0;
  std::atomic<bool> failed_ = false;
  std::string failure_;  // the first one's; does not change once failed_ is set
  std::array<std::span<const Dispatch>, kMaxUnderWay> under_way_;
};

/// What the device's one Block calls. It shares the counts, so that a handler that is still
/// returning when the device is gone touches nothing that is.
struct CompletionHandler {
  std::shared_ptr<Completions> completions;

  void operator()(Object command_buffer) const { completions->completed({command_buffer}); }
};

}  // namespace gander::gpu::metal
