#pragma once

#include <cstdint>

namespace gander::gpu::metal {

/// Cores of the GPU with this MTLDevice.registryID; 0 when the system does not say. Metal itself
/// has no such property: it is read from the driver's entry in the I/O registry.
std::uint32_t gpu_cores(std::uint64_t registry_id);

}  // namespace gander::gpu::metal
