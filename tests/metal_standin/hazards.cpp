#include "tests/metal_standin/hazards.h"

namespace gander::standin {
namespace {

// Buffers that a pass uses, and whether it may write them.
std::map<const Buffer*, bool> uses(const Pass& pass) {
  std::map<const Buffer*, bool> written;
  for (const auto& batch : pass.batches) {
    for (const DispatchCommand& dispatch : batch) {
      const std::size_t count = dispatch.pipeline->function().kernel().buffers;
      for (std::size_t i = 0; i < count; ++i) {
        if (const Buffer* buffer = dispatch.bindings[i].buffer) {
          written[buffer] |= dispatch.writes(i);
        }
      }
    }
  }
  return written;
}

}  // namespace

void HazardTracker::order_after(PassState& pass, Number earlier) const {
  const auto found = passes_.find(earlier);
  if (found == passes_.end()) return;  // complete
  pass.after.insert(earlier);
  pass.after.insert(found->second.after.begin(), found->second.after.end());
}

void HazardTracker::require_order(PassState& pass, const Buffer& buffer, Number earlier) const {
  const auto found = passes_.find(earlier);
  if (found == passes_.end() || pass.after.contains(earlier)) return;
  if (buffer.tracked()) {
    order_after(pass, earlier);
    return;
  }
  misuse(
      "encoder '{}' may overlap encoder '{}', committed before it: both use the untracked {}, "
      "one writes it, and no fence orders them",
      pass.name, found->second.name, buffer.description());
}

void HazardTracker::add(Owner owner, const Pass& pass) {
  PassState state{owner, pass.label, {}};
  for (const Fence* fence : pass.waits) {
    const auto updated = fences_.find(fence);
    if (updated != fences_.end()) order_after(state, updated->second);
  }
  const Number number = next_++;
  for (const auto& [buffer, is_written] : uses(pass)) {
    BufferState& use = buffers_[buffer];
    require_order(state, *buffer, use.writer);
    if (is_written) {
      for (const Number reader : use.readers) require_order(state, *buffer, reader);
      use = {number, {}};
    } else {
      use.readers.insert(number);
    }
  }
  passes_.emplace(number, std::move(state));
  for (const Fence* fence : pass.updates) fences_[fence] = number;
}

void HazardTracker::completed(Owner owner) {
  std::erase_if(passes_, [owner](const auto& pass) { return pass.second.owner == owner; });
  for (auto& [buffer, use] : buffers_) {
    std::erase_if(use.readers, [this](Number reader) { return !passes_.contains(reader); });
  }
}

}  // namespace gander::standin
