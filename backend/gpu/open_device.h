#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/gpu_backend.h"

namespace gander {

/// Backends that are a gpu::Device.
std::vector<std::string_view> gpu_backend_names();

/// False when the computer plainly has no GPU for this backend: no NVIDIA driver is installed.
bool gpu_may_be_there(std::string_view name);

/// Opens the device of the GPU backend called `name`; "auto" is the first that works here. Throws
/// Error when it is none of gpu_backend_names(), or is not there.
std::unique_ptr<gpu::Device> open_device(std::string_view name, const BackendOptions& options);

/// A backend on that device, with the shapes that `gander tune` stored for it. Throws Error.
std::unique_ptr<gpu::GpuBackend> create_gpu_backend(std::string_view name,
                                                    std::shared_ptr<const Weights> weights,
                                                    const BackendOptions& options);

}  // namespace gander
