#pragma once

#include <memory>

#include "backend/gpu/cuda/driver.h"
#include "backend/gpu/device.h"

// An NVIDIA GPU: the text of kernels/ compiled to PTX at build time and specialised at run time,
// launched in order on one stream. Capability 8.0 (Ampere) and later.
namespace gander::gpu {

struct CudaOptions {
  int ordinal = 0;                                 ///< which GPU, as the driver numbers them
  const cuda::Driver* driver = nullptr;            ///< default: this computer's
  std::span<const std::string_view> modules = {};  ///< default: cuda::kernel_modules()
};

/// Throws Error when there is no driver, no such GPU, or no kernels were built in.
std::unique_ptr<Device> open_cuda_device(const CudaOptions& options = {});

/// Whether this build has kernels for NVIDIA (GANDER_CUDA_KERNELS).
bool cuda_compiled_in();

}  // namespace gander::gpu
