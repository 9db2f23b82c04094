#pragma once

#include <cstdint>

// Parameter structs of kernels/batch, as C++ sees them.
namespace gander::gpu {

using uint = std::uint32_t;
#include "kernels/batch/parameters.h"

}  // namespace gander::gpu
