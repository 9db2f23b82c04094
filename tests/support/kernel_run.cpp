#include "tests/support/kernel_run.h"

namespace gander::gpu {

KernelRun::KernelRun(Device& device, std::string_view kernel) : device_(device), kernel_(kernel) {}

void KernelRun::constant(std::uint32_t index, std::uint32_t value) {
  constants_.push_back({index, false, value});
}

void KernelRun::constant(std::uint32_t index, float value) {
  constants_.push_back({index, true, std::bit_cast<std::uint32_t>(value)});
}

void KernelRun::add(std::span<const std::byte> before, std::span<std::byte> after) {
  const std::uint64_t bytes = std::max(before.size(), after.size());
  buffers_.push_back({{device_.allocate(bytes, kernel_), 0, bytes}, before, after});
}

void KernelRun::set_parameters(std::span<const std::byte> bytes) {
  parameters_.assign(bytes.begin(), bytes.end());
}

void KernelRun::launch(std::array<std::uint32_t, 2> groups, std::uint32_t threads,
                       std::uint32_t group_memory) {
  std::vector<Dispatch> dispatches(1);
  Dispatch& dispatch = dispatches[0];
  dispatch.kernel = kernel_;
  const PipelineInfo pipeline = device_.pipeline(kernel_, constants_);
  dispatch.pipeline = pipeline.id;
  dispatch.parameters = parameters_;
  dispatch.groups = groups;
  dispatch.threads = std::min(threads, pipeline.max_threads / 32 * 32);
  dispatch.group_memory = group_memory;
  for (const Buffer& buffer : buffers_) {
    const bool writes = !buffer.after.empty();
    dispatch.bindings.push_back({buffer.view, buffer.before.size(), writes ? buffer.view.size : 0});
    if (buffer.before.empty()) {
      const std::vector<std::byte> poison(buffer.view.size, std::byte{0xff});
      device_.write(buffer.view, poison);
    } else {
      device_.write(buffer.view, buffer.before);
    }
  }
  device_.wait(device_.submit(dispatches));
  for (const Buffer& buffer : buffers_) {
    if (!buffer.after.empty()) device_.read(buffer.view, buffer.after);
  }
}

}  // namespace gander::gpu
