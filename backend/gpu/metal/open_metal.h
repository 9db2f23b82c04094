#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/gpu/device.h"

namespace gander::gpu {

struct MetalOptions {
  /// A name as in metal_devices(), or an index into it; empty: the first that can run gander.
  std::string device;
  /// Where compiled pipelines are kept from run to run; empty: nowhere; nullopt: the user's cache
  /// folder, ~/Library/Caches/gander.
  std::optional<std::string> cache_folder;
  /// A file ending in .gputrace, for Xcode, which must not exist yet: the first
  /// `capture_submissions` command buffers are recorded. Empty: nothing is. Needs
  /// MTL_CAPTURE_ENABLED=1 in the environment.
  std::string capture_path;
  std::uint32_t capture_submissions = 1;
};

/// Whether this build has the Metal backend: every build for macOS.
bool metal_compiled_in();

/// Names of the GPUs, those that cannot run gander included. Empty where Metal is not compiled in.
std::vector<std::string> metal_devices();

/// Opens a GPU and compiles the kernels. Throws Error when there is none, when it lacks what the
/// kernels need (Apple silicon, macOS 14), or when they do not compile.
std::unique_ptr<Device> open_metal_device(const MetalOptions& options);

}  // namespace gander::gpu
