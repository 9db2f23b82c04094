#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "backend/gpu/cuda/driver.h"

namespace gander::gpu::cuda {

/// Machine code of a module's text, for the context's GPU. The driver compiles one module at a time
/// when it loads it, but links on as many threads as ask; it keeps either on disk. Throws Error with
/// what it says of the text; `kernel` is its name. Any thread may call it.
std::vector<std::byte> link(const Driver& driver, Context context, const std::string& kernel,
                            const std::string& ptx);

}  // namespace gander::gpu::cuda
