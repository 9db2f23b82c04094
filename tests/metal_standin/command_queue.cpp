#include "tests/metal_standin/command_queue.h"

#include "tests/metal_standin/scheduler.h"

#include <algorithm>

namespace gander::standin {

CommandQueue::CommandQueue(Ref<Device> device, UInteger max_command_buffers)
    : Labelled(kClass), device_(std::move(device)), max_command_buffers_(max_command_buffers) {
  if (max_command_buffers == 0) misuse("a command queue for 0 command buffers");
}

void CommandQueue::check_hazards(const CommandBuffer& command_buffer) {
  for (const auto& set : residency_sets_) {
    if (!set->committed()) {
      misuse("{}: residency set '{}' has changes that are not committed",
             command_buffer.description(), set->label());
    }
  }
  std::lock_guard lock(mutex_);
  for (const Pass& pass : command_buffer.passes()) hazards_.add(&command_buffer, pass);
}

void CommandQueue::committed(const CommandBuffer&) {
  std::lock_guard lock(mutex_);
  --recording_;
  ++in_flight_;
}

void CommandQueue::finished(const CommandBuffer& command_buffer) {
  std::lock_guard lock(mutex_);
  hazards_.completed(&command_buffer);
  --in_flight_;
  changed_.notify_all();
}

void CommandQueue::abandoned(const CommandBuffer&) {
  std::lock_guard lock(mutex_);
  --recording_;
}

Object* CommandQueue::make_command_buffer(bool retains, bool tells_encoders) {
  {
    std::unique_lock lock(mutex_);
    if (recording_ + in_flight_ >= max_command_buffers_) {
      if (in_flight_ == 0 || Scheduler::shared().held()) {
        misuse(
            "all {} command buffers of queue '{}' are in use and none will run: this would wait "
            "for ever",
            max_command_buffers_, label());
      }
      changed_.wait(lock, [this] { return recording_ + in_flight_ < max_command_buffers_; });
    }
    ++recording_;
  }
  return autoreleased(make<CommandBuffer>(Ref<CommandQueue>(this), retains, tells_encoders));
}

Object* CommandQueue::command_buffer() {
  return make_command_buffer(true, false);
}
Object* CommandQueue::command_buffer_unretained() {
  return make_command_buffer(false, false);
}

Object* CommandQueue::command_buffer_described(CommandBufferDescriptor* descriptor) {
  if (descriptor == nullptr) misuse("commandBufferWithDescriptor: with nil");
  return make_command_buffer(descriptor->retained_references(), descriptor->error_options() == 1);
}

void CommandQueue::add_residency_set(ResidencySet* set) {
  if (set == nullptr) misuse("addResidencySet: with nil");
  residency_sets_.emplace_back(set);
}

void CommandQueue::remove_residency_set(ResidencySet* set) {
  std::erase_if(residency_sets_, [set](const auto& kept) { return kept.get() == set; });
}

const Class CommandQueue::kClass{
    "MTLCommandQueue",
    {method<&CommandQueue::set_label>("setLabel:"), method<&CommandQueue::get_label>("label"),
     method<&CommandQueue::command_buffer>("commandBuffer"),
     method<&CommandQueue::command_buffer_unretained>("commandBufferWithUnretainedReferences"),
     method<&CommandQueue::command_buffer_described>("commandBufferWithDescriptor:"),
     method<&CommandQueue::add_residency_set>("addResidencySet:", 15),
     method<&CommandQueue::remove_residency_set>("removeResidencySet:", 15)}};

}  // namespace gander::standin
