#include "tests/support/test_device.h"

#include <cstdlib>
#include <string_view>

#include "backend/gpu/cuda/cuda_device.h"
#include "base/error.h"

namespace gander::gpu {

bool test_device_is_emulated() {
  const char* variable = std::getenv("GANDER_TEST_DEVICE");
  const std::string_view name = variable != nullptr ? variable : "emulated";
  if (name != "emulated" && name != "cuda") {
    fail("GANDER_TEST_DEVICE is {}: it can be emulated or cuda", name);
  }
  return name == "emulated";
}

std::unique_ptr<Device> open_test_device(Order order) {
  return open_resident_test_device({.order = order});
}

std::unique_ptr<Device> open_resident_test_device(const EmulatedOptions& options) {
  if (test_device_is_emulated()) return open_emulated_device(options);
  // One device stays open: the driver would tear down and make a context for every test.
  static const std::unique_ptr<Device> keeps_context = open_cuda_device();
  return open_cuda_device();
}

}  // namespace gander::gpu
