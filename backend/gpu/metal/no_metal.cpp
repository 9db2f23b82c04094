#include "backend/gpu/metal/open_metal.h"
#include "base/error.h"

// What stands in the place of the Metal backend everywhere but on macOS.
namespace gander::gpu {

bool metal_compiled_in() {
  return false;
}

std::vector<std::string> metal_devices() {
  return {};
}

std::unique_ptr<Device> open_metal_device(const MetalOptions&) {
  fail("Metal needs macOS 14 on Apple silicon: choose another backend");
}

}  // namespace gander::gpu
