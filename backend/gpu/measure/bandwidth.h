#pragma once

#include <cstdint>

#include "backend/gpu/device.h"

namespace gander::gpu {

struct ReadBandwidth {
  double bytes_per_second = 0;
  std::uint64_t buffer_bytes = 0;  ///< of the memory that was read
};

/// How fast a kernel that does nothing else reads the device's memory: the best of some rounds over
/// a buffer of 1 GB (several times the caches of any GPU; less where a buffer, or a quarter of the
/// memory, is smaller; 1 MB on the emulation). The buffer lives as long as the device.
ReadBandwidth measure_read_bandwidth(Device& device);

}  // namespace gander::gpu
