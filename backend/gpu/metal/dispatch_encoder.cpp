#include "backend/gpu/metal/dispatch_encoder.h"

namespace gander::gpu::metal {

void DispatchEncoder::bind(const View& view, std::size_t index) {
  auto& bound = bound_[index];
  if (bound.buffer == view.buffer && bound.offset == view.offset) return;
  if (bound.buffer == view.buffer) {
    encoder_.set_buffer_offset(view.offset, index);
  } else {
    encoder_.set_buffer(buffers_[view.buffer].get(), view.offset, index);
  }
  bound = {view.buffer, view.offset};
}

void DispatchEncoder::encode(const Dispatch& dispatch) {
  // What ran before this encoder is waited for by its fence.
  if (dispatch.barrier && !first_) encoder_.memory_barrier(BarrierScope::Buffers);
  first_ = false;
  if (dispatch.pipeline != pipeline_) {
    encoder_.set_pipeline(pipelines_[dispatch.pipeline].get());
    pipeline_ = dispatch.pipeline;
  }
  std::size_t index = 0;
  for (const auto& binding : dispatch.bindings) bind(binding.view, index++);
  if (!dispatch.parameters.empty()) {
    encoder_.set_bytes(dispatch.parameters.data(), dispatch.parameters.size(), index);
    bound_[index] = {};
  }
  // Metal takes no length of zero; a kernel without such memory does not look at the last one.
  if (dispatch.group_memory != group_memory_ && dispatch.group_memory != 0) {
    encoder_.set_threadgroup_memory_length(dispatch.group_memory, 0);
    group_memory_ = dispatch.group_memory;
  }
  encoder_.dispatch_threadgroups({dispatch.groups[0], dispatch.groups[1], 1},
                                 {dispatch.threads, 1, 1});
}

}  // namespace gander::gpu::metal
