#include "backend/gpu/metal/completions.h"

#include <algorithm>

namespace gander::gpu::metal {
namespace {

const char* advice(CommandBufferError code) {
  switch (code) {
    case CommandBufferError::Timeout:
      return "the GPU worked on it for too long: close other programs that use the GPU, or run "
             "with "
             "--sync layer, which gives it less at a time";
    case CommandBufferError::PageFault:
    case CommandBufferError::InvalidResource:
      return "a kernel reached outside its buffers: please report this with the model's name";
    case CommandBufferError::StackOverflow:
      return "a kernel's stack overflowed: please report this with the model's name";
    case CommandBufferError::AccessRevoked:
      return "macOS stopped this program's GPU work after earlier errors: start it again";
    case CommandBufferError::NotPermitted:
      return "macOS does not let this program use the GPU now: bring it to the front";
    case CommandBufferError::OutOfMemory:
      return "the GPU ran out of memory: close other programs, choose a smaller or more strongly "
             "quantised model, or raise the limit with sysctl iogpu.wired_limit_mb";
    case CommandBufferError::DeviceRemoved:
      return "the GPU was removed";
    case CommandBufferError::Internal:
      break;
  }
  return "start gander again, and report this if it comes back";
}

// Whether the one encoder of the command buffer is to blame.
const char* blame(NSError error) {
  const auto encoders = error.info<Array>(String{{MTLCommandBufferEncoderInfoErrorKey}});
  if (encoders.count() == 0) return "";
  switch (encoders.at<CommandBufferEncoderInfo>(0).error_state()) {
    case EncoderState::Affected:
      return " while it ran, perhaps because of another program";
    case EncoderState::Pending:
      return " before it ran";
    default:
      return "";
  }
}

std::string name_of(std::span<const Dispatch> dispatches) {
  if (dispatches.empty()) return "no kernel";
  const auto& first = dispatches.front();
  if (dispatches.size() == 1) return fmt::format("kernel {}, layer {}", first.kernel, first.layer);
  return fmt::format("{} kernels from {} to {}; --sync op tells which one", dispatches.size(),
                     first.kernel, dispatches.back().kernel);
}

}  // namespace

void Completions::completed(CommandBuffer command_buffer) {
  const AutoreleasePool pool;
  const std::lock_guard turn(handlers_);
  const std::uint64_t number = count_.load(std::memory_order_relaxed) + 1;
  const double seconds = command_buffer.gpu_end_time() - command_buffer.gpu_start_time();
  gpu_seconds_.store(gpu_seconds() + std::max(seconds, 0.0), std::memory_order_relaxed);
  if (command_buffer.status() == CommandBufferStatus::Error && !failed_) {
    const NSError error = command_buffer.error();
    failure_ = fmt::format("command buffer {} ({}) failed: {} (error {}){}: {}", number,
                           name_of(under_way_[number % kMaxUnderWay]), describe(error),
                           error.code(), blame(error), advice(CommandBufferError(error.code())));
    failed_ = true;
  }
  count_.store(number, std::memory_order_release);
  count_.notify_all();
}

void Completions::wait(std::uint64_t number) const {
  for (auto count = count_.load(std::memory_order_acquire); count < number;
       count = count_.load(std::memory_order_acquire)) {
    count_.wait(count, std::memory_order_acquire);
  }
}

void Completions::throw_failure() const {
  if (failed_) fail("Metal: {}", failure_);
}

}  // namespace gander::gpu::metal
