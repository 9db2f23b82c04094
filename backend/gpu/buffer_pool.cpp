#include "backend/gpu/buffer_pool.h"

#include <algorithm>

namespace gander::gpu {

void BufferPool::add(View& view, std::uint64_t bytes) {
  view = {0, size_, bytes};
  views_.push_back(&view);
  size_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// An empty view at the end needs a byte behind its offset to be bound.
std::uint64_t BufferPool::size() const {
  return views_.empty() || views_.back()->size > 0 ? std::max(size_, kAlignment)
                                                   : size_ + kAlignment;
}

void BufferPool::allocate(Device& device, std::string_view label) {
  const std::uint32_t buffer = device.allocate(size(), label);
  for (View* view : views_) view->buffer = buffer;
}

}  // namespace gander::gpu
