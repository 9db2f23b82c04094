#pragma once

#include "tests/metal_standin/pipeline.h"

#include <memory>

namespace gander::standin {

/// id<MTLFence>: a pass that waits for it runs after the passes that updated it before.
class Fence : public Labelled {
 public:
  explicit Fence(Ref<Device> device);

 private:
  static const Class kClass;

  Ref<Device> device_;
};

/// What a buffer index of an encoder is bound to.
struct Binding {
  Buffer* buffer = nullptr;  ///< kept by the command buffer, if by anyone
  UInteger offset = 0;
  std::shared_ptr<std::vector<std::byte>> bytes;  ///< of setBytes, instead
};

struct DispatchCommand {
  Pipeline* pipeline = nullptr;
  std::vector<Binding> bindings;  ///< 31
  UInteger group_memory = 0;
  Size groups = {}, threads = {};

  bool writes(std::size_t binding) const;
};

/// What one encoder recorded.
struct Pass {
  std::string label;
  std::vector<std::string> signposts;
  std::vector<std::vector<DispatchCommand>> batches;  ///< between two barriers: may overlap
  std::vector<Fence*> waits, updates;
};

}  // namespace gander::standin
