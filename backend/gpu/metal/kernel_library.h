#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "backend/gpu/device.h"
#include "backend/gpu/metal/metal_api.h"

namespace gander::gpu::metal {

/// All kernels, compiled for any model.
struct KernelLibrary {
  Retained<Library> functions;
  /// In Metal 3.2 (macOS 15), whose atomic_thread_fence lets a group read what another one wrote.
  bool metal_3_2 = false;
  /// Differs when the kernels or how they are compiled differ.
  std::uint64_t hash = 0;

  /// A kernel with values for its function constants. Throws Error when there is none of the name,
  /// or when a constant that it uses is not given.
  Retained<Function> function(std::string_view name,
                              std::span<const FunctionConstant> constants) const;
};

/// The library that was compiled when gander was built, where there is one, else compiles the
/// source. Throws Error with the compiler's first error.
KernelLibrary open_kernel_library(MetalGpu gpu);

}  // namespace gander::gpu::metal
