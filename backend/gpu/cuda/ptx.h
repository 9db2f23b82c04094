#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "backend/gpu/device.h"

// The kernels as PTX, NVIDIA's assembly text, and how one becomes a pipeline: its function
// constants are written into the text before the driver compiles it, so that loops have known
// bounds and branches that cannot be taken leave no code, as with Metal's function constants.
namespace gander::gpu::cuda {

/// The modules made from kernels/**/*.metal; none unless built with GANDER_CUDA_KERNELS. They live
/// as long as the program.
std::span<const std::string_view> kernel_modules();

struct KernelText {
  std::string ptx;                   ///< a module with this kernel only
  std::uint32_t argument_bytes = 0;  ///< of the kernel's one parameter, an argument block
  bool waits_itself = false;  ///< for the kernel before it: may be started while that one runs
};

/// The kernel `name` for these constants, of the newest of the modules that GPUs of this capability
/// (90 for 9.0) can run. Throws Error when none has the kernel, or when it uses a constant that is
/// not given.
///
/// Names that stand for something in a module (tools/msl/include/msl_nvidia.h writes them):
///   gander_constant_N   the 32 bits of function constant N
///   gander_arguments    the kernel's parameter, an argument block
///   gander_begin        where the kernel waits for what the one before it wrote (Hopper and later:
///                       older GPUs start no kernel before); of several places, not the first
KernelText specialise(std::span<const std::string_view> modules, std::string_view name,
                      std::span<const FunctionConstant> constants, std::uint32_t capability = 80);

/// Where the bytes of Dispatch::parameters begin in an argument block: after the addresses of the
/// buffers, aligned for any struct.
constexpr std::uint32_t parameter_offset(std::size_t buffers) {
  return static_cast<std::uint32_t>((buffers * sizeof(std::uint64_t) + 15) / 16 * 16);
}

}  // namespace gander::gpu::cuda
