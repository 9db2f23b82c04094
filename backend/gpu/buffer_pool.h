#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/gpu/device.h"

namespace gander::gpu {

/// Gathers requests for memory and makes one buffer of them: a model needs tens of buffers, not
/// thousands, and what belongs together lies together.
class BufferPool {
 public:
  /// Every view begins at a multiple of this, enough for any vector load and any bound offset.
  static constexpr std::uint64_t kAlignment = 256;

  /// `view`, which must stay where it is until allocate(), will have `bytes` bytes. No bytes are
  /// allowed: such a view is empty and still valid to bind.
  void add(View& view, std::uint64_t bytes);

  /// Bytes of the buffer to be allocated; at least kAlignment.
  std::uint64_t size() const;

  /// Allocates the buffer and sets all views.
  void allocate(Device& device, std::string_view label);

 private:
  std::vector<View*> views_;
  std::uint64_t size_ = 0;
};

}  // namespace gander::gpu
