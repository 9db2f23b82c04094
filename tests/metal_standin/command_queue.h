#pragma once

#include "tests/metal_standin/command_buffer.h"
#include "tests/metal_standin/hazards.h"
#include "tests/metal_standin/residency_set.h"

namespace gander::standin {

/// id<MTLCommandQueue>
class CommandQueue : public Labelled {
 public:
  CommandQueue(Ref<Device> device, UInteger max_command_buffers);

  /// Checks that the command buffer's passes are ordered with those before.
  void check_hazards(const CommandBuffer& command_buffer);
  /// The command buffer's completion has been seen; the number of those that exist goes down.
  void finished(const CommandBuffer& command_buffer);
  /// One that was never committed is gone.
  void abandoned(const CommandBuffer& command_buffer);
  void committed(const CommandBuffer& command_buffer);

 private:
  Object* command_buffer();
  Object* command_buffer_unretained();
  Object* command_buffer_described(CommandBufferDescriptor* descriptor);
  Object* make_command_buffer(bool retains, bool tells_encoders);
  void add_residency_set(ResidencySet* set);
  void remove_residency_set(ResidencySet* set);
  static const Class kClass;

  Ref<Device> device_;
  const UInteger max_command_buffers_;
  std::vector<Ref<ResidencySet>> residency_sets_;
  std::mutex mutex_;  ///< of what follows
  std::condition_variable changed_;
  UInteger recording_ = 0, in_flight_ = 0;
  HazardTracker hazards_;
};

}  // namespace gander::standin
