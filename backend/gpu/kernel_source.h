#pragma once

#include <string_view>

namespace gander::gpu {

/// All of kernels/ as one text for Metal's compiler, local includes pasted in. #line directives
/// name the files.
std::string_view kernel_source();

}  // namespace gander::gpu
