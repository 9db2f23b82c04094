#pragma once

#include "backend/gpu/device.h"
#include "backend/gpu/emulated/machine.h"

#include <memory>

namespace gander::gpu {

using Order = msl::Order;

/// What the emulation pretends to be.
struct EmulatedOptions {
  Order order = Order::Forward;
  std::uint32_t resident_groups = 0;            ///< see DeviceInfo
  std::uint32_t max_group_memory = 32U << 10U;  ///< bytes
  std::uint32_t cores = 1;
};

/// A GPU that is emulated on the calling thread, from the same kernel text as Metal's: slow, exact,
/// for tests. submit() has run everything when it returns. In orders other than Forward, dispatches
/// that may overlap change places too, so that a missing barrier between them shows.
std::unique_ptr<Device> open_emulated_device(Order order = Order::Forward);
std::unique_ptr<Device> open_emulated_device(const EmulatedOptions& options);

}  // namespace gander::gpu
