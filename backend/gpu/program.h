#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "backend/gpu/device.h"

namespace gander::gpu {

/// How often the CPU hands work over and waits for it.
enum class SyncMode {
  Op,     ///< after every dispatch
  Layer,  ///< after every layer
  Token,  ///< after every token
  Async,  ///< tokens are queued ahead
};

/// What the device does for one token, recorded once and submitted for every token.
struct Program {
  std::vector<Dispatch> dispatches;

  std::uint64_t bytes_read() const;
  std::uint64_t bytes_written() const;
};

/// Submits the dispatches in pieces as the mode says; waits for each but in Async mode. Returns the
/// number of the last submission.
std::uint64_t run(Device& device, std::span<const Dispatch> dispatches, SyncMode mode);

}  // namespace gander::gpu
