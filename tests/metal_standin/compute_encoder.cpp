#include "tests/metal_standin/compute_encoder.h"

#include "tests/metal_standin/command_buffer.h"
#include "tests/metal_standin/counting.h"

#include <algorithm>
#include <numeric>

namespace gander::standin {
namespace {

// Metal's limits, the same for all Apple GPUs since Apple7.
constexpr UInteger kBuffers = 31, kMaxInlineBytes = 4096, kMaxGroupMemory = 32 << 10;
constexpr UInteger kGroupMemoryUnit = 16, kOffsetUnit = 4;
constexpr UInteger kBufferScope = 1;  // MTLBarrierScopeBuffers

}  // namespace

ComputeEncoder::ComputeEncoder(Ref<CommandBuffer> command_buffer, bool concurrent)
    : Labelled(kClass),
      command_buffer_(std::move(command_buffer)),
      concurrent_(concurrent),
      bindings_(kBuffers),
      group_memory_(kBuffers) {}

ComputeEncoder::~ComputeEncoder() {
  if (!ended_) misuse("encoder '{}' was released without endEncoding", label());
}

void ComputeEncoder::check_open(std::string_view method) const {
  if (ended_) misuse("encoder '{}': {} after endEncoding", label(), method);
}

Binding& ComputeEncoder::binding(UInteger index, std::string_view method) {
  check_open(method);
  if (index >= kBuffers) misuse("{}: buffer index {}, the largest is 30", method, index);
  return bindings_[index];
}

void ComputeEncoder::set_pipeline(Pipeline* pipeline) {
  check_open("setComputePipelineState:");
  if (pipeline == nullptr) misuse("encoder '{}': setComputePipelineState: with nil", label());
  pipeline_ = pipeline;
  command_buffer_->keep(pipeline);
}

void ComputeEncoder::set_buffer(Buffer* buffer, UInteger offset, UInteger index) {
  Binding& bound = binding(index, "setBuffer:offset:atIndex:");
  if (buffer != nullptr) {
    command_buffer_->keep(buffer);
    bound = {buffer, 0, nullptr};
    set_buffer_offset(offset, index);
  } else {
    bound = {};
  }
}

void ComputeEncoder::set_buffer_offset(UInteger offset, UInteger index) {
  Binding& bound = binding(index, "setBufferOffset:atIndex:");
  if (bound.buffer == nullptr)
    misuse("setBufferOffset:atIndex:{}: no buffer is bound there", index);
  if (offset >= bound.buffer->length()) {
    misuse("offset {} is beyond the {}", offset, bound.buffer->description());
  }
  if (offset % kOffsetUnit != 0) {
    misuse("offset {} into the {} is not a multiple of 4", offset, bound.buffer->description());
  }
  bound.offset = offset;
}

void ComputeEncoder::set_bytes(const void* bytes, UInteger length, UInteger index) {
  Binding& bound = binding(index, "setBytes:length:atIndex:");
  if (bytes == nullptr || length == 0 || length > kMaxInlineBytes) {
    misuse("setBytes:length:{}: 1 to 4096 bytes are allowed; use a buffer", length);
  }
  const auto* begin = static_cast<const std::byte*>(bytes);
  bound = {nullptr, 0, std::make_shared<std::vector<std::byte>>(begin, begin + length)};
}

void ComputeEncoder::set_group_memory(UInteger length, UInteger index) {
  check_open("setThreadgroupMemoryLength:atIndex:");
  if (index != 0) misuse("setThreadgroupMemoryLength:atIndex:{}: the kernels use index 0", index);
  if (length % kGroupMemoryUnit != 0) {
    misuse("setThreadgroupMemoryLength:{}: not a multiple of 16", length);
  }
  group_memory_[index] = length;
}

void ComputeEncoder::check_bindings() const {
  const msl::Kernel& kernel = pipeline_->function().kernel();
  for (UInteger i = 0; i < kernel.buffers; ++i) {
    const Binding& bound = bindings_[i];
    if (bound.buffer == nullptr && bound.bytes == nullptr) {
      misuse("kernel {}: nothing is bound at buffer index {}", kernel.name, i);
    }
    if (bound.buffer != nullptr && !is_alive(bound.buffer)) {
      misuse("kernel {}: the buffer at index {} has been released", kernel.name, i);
    }
    const UInteger bytes =
        bound.buffer != nullptr ? bound.buffer->length() - bound.offset : bound.bytes->size();
    if (bytes < kernel.element_bytes[i]) {
      misuse("kernel {}: buffer index {} has {} bytes, the argument {}", kernel.name, i, bytes,
             kernel.element_bytes[i]);
    }
  }
}

void ComputeEncoder::check_group(Size groups, Size threads) const {
  const std::string kernel = pipeline_->kernel();
  if (groups.count() == 0 || threads.count() == 0) {
    misuse("kernel {}: a grid of {} x {} x {} groups of {} x {} x {} threads is empty", kernel,
           groups.width, groups.height, groups.depth, threads.width, threads.height, threads.depth);
  }
  if (threads.count() > pipeline_->max_threads()) {
    misuse("kernel {}: {} threads in a group, its pipeline allows {}", kernel, threads.count(),
           pipeline_->max_threads());
  }
  if (pipeline_->whole_simd_groups() && threads.count() % 32 != 0) {
    misuse("kernel {}: {} threads in a group, its pipeline was made for multiples of 32", kernel,
           threads.count());
  }
  const UInteger memory = std::accumulate(group_memory_.begin(), group_memory_.end(), UInteger{0});
  if (memory > kMaxGroupMemory) {
    misuse("kernel {}: {} bytes of thread-group memory, 32768 are allowed", kernel, memory);
  }
}

void ComputeEncoder::dispatch(Size groups, Size threads) {
  check_open("dispatchThreadgroups:threadsPerThreadgroup:");
  if (pipeline_ == nullptr) misuse("encoder '{}': a dispatch without a pipeline", label());
  if (!is_alive(pipeline_)) misuse("encoder '{}': its pipeline has been released", label());
  check_bindings();
  check_group(groups, threads);
  if (!batch_is_open_) pass_.batches.emplace_back();
  batch_is_open_ = concurrent_;
  pass_.batches.back().push_back({pipeline_, bindings_, group_memory_[0], groups, threads});
  count(&Counters::dispatches);
}

void ComputeEncoder::barrier(UInteger scope) {
  check_open("memoryBarrierWithScope:");
  if ((scope & kBufferScope) == 0) {
    misuse("memoryBarrierWithScope:{}: does not order buffers, MTLBarrierScopeBuffers is 1", scope);
  }
  batch_is_open_ = false;
  count(&Counters::barriers);
}

// The driver waits at the beginning of a pass and updates at its end.
void ComputeEncoder::wait_for(Fence* fence) {
  check_open("waitForFence:");
  if (fence == nullptr) misuse("encoder '{}': waitForFence: with nil", label());
  if (std::count(pass_.updates.begin(), pass_.updates.end(), fence) != 0) {
    misuse("encoder '{}' waits for a fence that it updates itself", label());
  }
  command_buffer_->keep(fence);
  pass_.waits.push_back(fence);
}

void ComputeEncoder::update(Fence* fence) {
  check_open("updateFence:");
  if (fence == nullptr) misuse("encoder '{}': updateFence: with nil", label());
  command_buffer_->keep(fence);
  pass_.updates.push_back(fence);
}

// Bound buffers are resident anyway.
void ComputeEncoder::use_resource(Buffer* buffer, UInteger) {
  check_open("useResource:usage:");
  command_buffer_->keep(buffer);
}

void ComputeEncoder::push_debug_group(String* name) {
  check_open("pushDebugGroup:");
  insert_signpost(name);
  ++debug_groups_;
}

void ComputeEncoder::pop_debug_group() {
  check_open("popDebugGroup");
  if (--debug_groups_ < 0) misuse("encoder '{}': popDebugGroup without a push", label());
}

void ComputeEncoder::insert_signpost(String* name) {
  check_open("insertDebugSignpost:");
  pass_.signposts.push_back(text_of(name));
}

void ComputeEncoder::end() {
  check_open("endEncoding");
  if (debug_groups_ != 0) misuse("encoder '{}': {} debug groups are open", label(), debug_groups_);
  ended_ = true;
  pass_.label = label();
  command_buffer_->end_encoder(std::move(pass_));
}

const Class ComputeEncoder::kClass{
    "MTLComputeCommandEncoder",
    {method<&ComputeEncoder::set_label>("setLabel:"), method<&ComputeEncoder::get_label>("label"),
     method<&ComputeEncoder::set_pipeline>("setComputePipelineState:"),
     method<&ComputeEncoder::set_buffer>("setBuffer:offset:atIndex:"),
     method<&ComputeEncoder::set_buffer_offset>("setBufferOffset:atIndex:"),
     method<&ComputeEncoder::set_bytes>("setBytes:length:atIndex:"),
     method<&ComputeEncoder::set_group_memory>("setThreadgroupMemoryLength:atIndex:"),
     method<&ComputeEncoder::dispatch>("dispatchThreadgroups:threadsPerThreadgroup:"),
     method<&ComputeEncoder::barrier>("memoryBarrierWithScope:"),
     method<&ComputeEncoder::wait_for>("waitForFence:"),
     method<&ComputeEncoder::update>("updateFence:"),
     method<&ComputeEncoder::use_resource>("useResource:usage:"),
     method<&ComputeEncoder::push_debug_group>("pushDebugGroup:"),
     method<&ComputeEncoder::pop_debug_group>("popDebugGroup"),
     method<&ComputeEncoder::insert_signpost>("insertDebugSignpost:"),
     method<&ComputeEncoder::end>("endEncoding")}};

}  // namespace gander::standin
