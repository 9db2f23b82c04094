#include "backend/gpu/metal/completions.h"

#include <algorithm>

namespace gander::gpu::metal {
namespace {

const char* advice(CommandBufferError code) {
  switch (code) {
    case CommandBufferError::Timeout:
      return "the GPU worked on it for too long: close other programs that use the GPU, or read "
             "prompts in shorter chunks";
    case CommandBufferError::PageFault:
    case CommandBufferError::InvalidResource:
      return "a kernel reached outside its buffers: please report this with the model's name";
    case CommandBufferError::StackOverflow:
      return "a kernel's stack overflowed: please report this with the model's name";
    case CommandBufferError::AccessRevoked:
      return "macOS stopped this program's GPU work after earlier errors: start it again";
    case CommandBufferError::NotPermitted:
      return "macOS does not let this program use the GPU now";
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

// A command buffer has one encoder; whether that one is to blame.
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

std::string explain(NSError error) {
  return fmt::format("{} (error {}){}: {}", describe(error), error.code(), blame(error),
                     advice(CommandBufferError(error.code())));
}

}  // namespace

void Completions::completed(CommandBuffer command_buffer) {
  const AutoreleasePool pool;
  const bool failed = command_buffer.status() == CommandBufferStatus::Error;
  const double seconds = command_buffer.gpu_end_time() - command_buffer.gpu_start_time();
  std::string reason = failed ? explain(command_buffer.error()) : std::string();

  const std::lock_guard lock(mutex_);
  ++count_;
  gpu_seconds_ += std::max(seconds, 0.0);
  if (failed && !failure_) failure_ = {count_, std::move(reason)};
  changed_.notify_all();
}

void Completions::wait(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return count_ >= number; });
}

std::optional<CommandFailure> Completions::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

double Completions::gpu_seconds() const {
  const std::lock_guard lock(mutex_);
  return gpu_seconds_;
}

}  // namespace gander::gpu::metal
