#pragma once

#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// The kernels as `xcrun metal` compiled them when gander was built, in Metal 3.2 or 3.1. Empty
/// when the build had no Metal compiler, or one that does not know the version: compile the source.
Retained<Library> built_library(MetalGpu gpu, bool metal_3_2);

}  // namespace gander::gpu::metal
