#pragma once

#include <memory>

#include "backend/gpu/emulated/emulated_device.h"

namespace gander::gpu {

/// The device that tests of kernels run on: the emulated GPU, with its threads in this order. With
/// GANDER_TEST_DEVICE=cuda an NVIDIA GPU, which has an order of its own (script/gpu-test).
std::unique_ptr<Device> open_test_device(Order order = Order::Forward);

/// One whose groups may wait for each other; the options are the emulated one's.
std::unique_ptr<Device> open_resident_test_device(const EmulatedOptions& options);

/// False where the order above says nothing, and running in each of them only repeats a test.
bool test_device_is_emulated();

}  // namespace gander::gpu
