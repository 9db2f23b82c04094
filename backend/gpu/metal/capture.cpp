#include "backend/gpu/metal/capture.h"

#include <filesystem>
#include <system_error>

namespace gander::gpu::metal {

Capture::Capture(std::string path, std::uint32_t submissions)
    : path_(std::move(path)), left_(submissions) {
  if (!path_.ends_with(".gputrace")) {
    fail("{}: a GPU capture must be named like capture.gputrace: Xcode opens it by that", path_);
  }
  std::error_code missing;
  if (std::filesystem::exists(path_, missing)) {
    fail("{}: exists already: remove it, or capture into another file", path_);
  }
  if (!CaptureManager::shared().supports(CaptureDestination::GPUTraceDocument)) {
    fail("{}: Metal does not capture: start gander with MTL_CAPTURE_ENABLED=1 in its environment",
         path_);
  }
}

void Capture::begin_submission(CommandQueue queue) {
  if (started_) return;
  const auto descriptor = make_object<CaptureDescriptor>();
  descriptor->set_capture_object(queue);
  descriptor->set_destination(CaptureDestination::GPUTraceDocument);
  descriptor->set_output_url(make_file_url(path_));
  NSError error;
  started_ = CaptureManager::shared().start(descriptor.get(), error);
  if (!started_) {
    left_ = 0;
    fail("{}: Metal does not start the capture: {}", path_, describe(error));
  }
}

void Capture::stop() {
  if (started_) CaptureManager::shared().stop();
  started_ = false;
  left_ = 0;
}

}  // namespace gander::gpu::metal
