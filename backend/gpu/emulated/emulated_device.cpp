#include "backend/gpu/emulated/emulated_device.h"

#include "backend/gpu/emulated/sanitizers.h"
#include "base/error.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <string>

namespace gander::gpu {
namespace {

constexpr std::align_val_t kAlignment{256};

struct FreeAligned {
  void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
};

// Exactly as large as asked for: an address sanitizer sees what goes past the end.
struct Memory {
  std::unique_ptr<std::byte, FreeAligned> owned;  // nothing when wrapped
  std::byte* begin = nullptr;
  std::uint64_t bytes = 0;
  bool read_only = false;
  std::string label;
};

// For the address sanitizer: of the buffers that a dispatch binds, only the bound parts are there.
class OnlyBoundParts {
 public:
  OnlyBoundParts(std::span<const Memory> buffers, const Dispatch& dispatch)
      : buffers_(buffers), dispatch_(dispatch) {
    for (const Binding& binding : dispatch.bindings) {
      const Memory& memory = buffers[binding.view.buffer];
      msl::forbid(memory.begin, memory.bytes);
    }
    for (const Binding& binding : dispatch.bindings) {
      msl::allow(buffers[binding.view.buffer].begin + binding.view.offset, binding.view.size);
    }
  }
  OnlyBoundParts(const OnlyBoundParts&) = delete;
  OnlyBoundParts& operator=(const OnlyBoundParts&) = delete;
  ~OnlyBoundParts() {
    for (const Binding& binding : dispatch_.bindings) {
      const Memory& memory = buffers_[binding.view.buffer];
      msl::allow(memory.begin, memory.bytes);
    }
  }

 private:
  std::span<const Memory> buffers_;
  const Dispatch& dispatch_;
};

struct EmulatedPipeline {
  const msl::Kernel* kernel;
  std::vector<FunctionConstant> given;
  msl::FunctionConstants constants;
};

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(const EmulatedOptions& options) : order_(options.order) {
    msl::link_kernels();
    info_.name = "emulated GPU";
    info_.emulated = true;
    info_.max_buffer_bytes = ~std::uint64_t{0};
    info_.cores = options.cores;
    info_.wraps_memory = true;
    info_.device_fences = true;
    info_.max_group_memory = options.max_group_memory;
    info_.resident_groups = options.resident_groups;
    info_.transfers_aside = true;
  }

  const DeviceInfo& info() const override { return info_; }
  std::uint32_t allocate(std::uint64_t bytes, std::string_view label) override;
  std::uint32_t wrap(std::span<const std::byte> pages, std::string_view label) override;
  void write(const View& view, std::span<const std::byte> bytes) override;
  void read(const View& view, std::span<std::byte> bytes) const override;
  void copy(const View& from, const View& to) override;
  void read_aside(const View& view, std::span<std::byte> bytes) const override;
  void write_aside(const View& view, std::span<const std::byte> bytes) override;
  std::uint64_t allocated_bytes() const override;
  PipelineInfo pipeline(std::string_view function,
                        std::span<const FunctionConstant> constants) override;
  std::uint64_t submit(std::span<const Dispatch> dispatches) override;
  void queue(std::span<const Dispatch> dispatches) override;
  void wait(std::uint64_t number) override;

 private:
  std::byte* at(const View& view) const;
  void run(const Dispatch& dispatch) const;
  void check(const Dispatch& dispatch, const EmulatedPipeline& pipeline) const;
  void check_writes(const msl::Kernel& kernel, std::size_t index, const Binding& binding) const;

  Order order_;
  DeviceInfo info_;
  std::vector<Memory> buffers_;
  std::vector<EmulatedPipeline> pipelines_;
  std::uint64_t waited_ = 0;  // the latest submission that was waited for
  // While a dispatch runs, what it does not bind must not be touched by anyone.
  mutable std::mutex running_;
};

std::uint32_t EmulatedDevice::allocate(std::uint64_t bytes, std::string_view label) {
  if (bytes == 0) fail("emulated GPU: buffer '{}' would be empty", label);
  Memory memory;
  memory.owned.reset(static_cast<std::byte*>(::operator new(bytes, kAlignment)));
  memory.begin = memory.owned.get();
  memory.bytes = bytes;
  memory.label = label;
  std::memset(memory.begin, 0, bytes);
  buffers_.push_back(std::move(memory));
  return static_cast<std::uint32_t>(buffers_.size() - 1);
}

std::uint32_t EmulatedDevice::wrap(std::span<const std::byte> pages, std::string_view label) {
  Memory memory;
  memory.begin = const_cast<std::byte*>(pages.data());
  memory.bytes = pages.size();
  memory.read_only = true;
  memory.label = label;
  buffers_.push_back(std::move(memory));
  return static_cast<std::uint32_t>(buffers_.size() - 1);
}

std::byte* EmulatedDevice::at(const View& view) const {
  if (view.buffer >= buffers_.size()) {
    fail("emulated GPU: no buffer {}: there are {}", view.buffer, buffers_.size());
  }
  const Memory& memory = buffers_[view.buffer];
  if (view.offset > memory.bytes || view.size > memory.bytes - view.offset) {
    fail("emulated GPU: bytes {} to {} of buffer '{}', which has {}", view.offset,
         view.offset + view.size, memory.label, memory.bytes);
  }
  return memory.begin + view.offset;
}

void EmulatedDevice::write(const View& view, std::span<const std::byte> bytes) {
  if (bytes.size() != view.size) {
    fail("emulated GPU: {} bytes for a view of {}", bytes.size(), view.size);
  }
  std::byte* target = at(view);
  if (buffers_[view.buffer].read_only) {
    fail("emulated GPU: buffer '{}' is read-only", buffers_[view.buffer].label);
  }
  std::copy(bytes.begin(), bytes.end(), target);
}

void EmulatedDevice::read(const View& view, std::span<std::byte> bytes) const {
  if (bytes.size() != view.size) {
    fail("emulated GPU: {} bytes for a view of {}", bytes.size(), view.size);
  }
  std::copy_n(at(view), view.size, bytes.begin());
}

void EmulatedDevice::copy(const View& from, const View& to) {
  write(to, std::span(at(from), from.size));
}

void EmulatedDevice::read_aside(const View& view, std::span<std::byte> bytes) const {
  const std::lock_guard lock(running_);
  read(view, bytes);
}

void EmulatedDevice::write_aside(const View& view, std::span<const std::byte> bytes) {
  const std::lock_guard lock(running_);
  write(view, bytes);
}

std::uint64_t EmulatedDevice::allocated_bytes() const {
  std::uint64_t bytes = 0;
  for (const Memory& memory : buffers_) bytes += memory.bytes;
  return bytes;
}

PipelineInfo EmulatedDevice::pipeline(std::string_view function,
                                      std::span<const FunctionConstant> constants) {
  const auto same = [&](const EmulatedPipeline& pipeline) {
    return pipeline.kernel->name == function && std::ranges::equal(pipeline.given, constants);
  };
  const auto found = std::ranges::find_if(pipelines_, same);
  if (found != pipelines_.end()) {
    return {static_cast<std::uint32_t>(found - pipelines_.begin()), info_.max_threads};
  }
  EmulatedPipeline pipeline{msl::find_kernel(function), {constants.begin(), constants.end()}, {}};
  if (pipeline.kernel == nullptr) fail("emulated GPU: no kernel '{}'", function);
  for (const FunctionConstant& constant : constants) {
    if (constant.index >= pipeline.constants.bits.size()) {
      fail("kernel {}: function constant {}: there are {}", function, constant.index,
           pipeline.constants.bits.size());
    }
    pipeline.constants.bits[constant.index] = constant.bits;
    pipeline.constants.given |= std::uint64_t{1} << constant.index;
  }
  const std::uint64_t absent = pipeline.kernel->constants & ~pipeline.constants.given;
  if (absent != 0) {
    fail("kernel {}: function constant {} has no value", function, std::countr_zero(absent));
  }
  pipelines_.push_back(std::move(pipeline));
  return {static_cast<std::uint32_t>(pipelines_.size() - 1), info_.max_threads};
}

std::uint64_t EmulatedDevice::submit(std::span<const Dispatch> dispatches) {
  queue(dispatches);
  return ++counters_.submissions;
}

void EmulatedDevice::queue(std::span<const Dispatch> dispatches) {
  const std::lock_guard lock(running_);
  std::size_t begin = 0;
  while (begin < dispatches.size()) {
    // Up to the next barrier, any order must do.
    std::size_t end = begin + 1;
    while (end < dispatches.size() && !dispatches[end].barrier) ++end;
    const auto count = static_cast<std::uint32_t>(end - begin);
    for (std::uint32_t i = 0; i < count; ++i) {
      run(dispatches[begin + msl::place_in_order(order_, i, count, 0)]);
    }
    begin = end;
  }
  for (const Dispatch& dispatch : dispatches) counters_.barriers += dispatch.barrier ? 1 : 0;
  counters_.dispatches += dispatches.size();
}

void EmulatedDevice::wait(std::uint64_t number) {
  if (number > counters_.submissions) fail("emulated GPU: submission {} does not exist", number);
  if (number <= waited_) return;
  waited_ = number;
  ++counters_.waits;
}

// What Metal's validation would object to.
void EmulatedDevice::check(const Dispatch& dispatch, const EmulatedPipeline& pipeline) const {
  const msl::Kernel& kernel = *pipeline.kernel;
  const std::size_t bound = dispatch.bindings.size() + (dispatch.parameters.empty() ? 0 : 1);
  if (dispatch.kernel != kernel.name) {
    fail("dispatch of {} with the pipeline of {}", dispatch.kernel, kernel.name);
  }
  if (bound != kernel.buffers) {
    fail("kernel {}: {} buffers bound, it has {}", kernel.name, bound, kernel.buffers);
  }
  if (dispatch.parameters.size() > 4096) {
    fail("kernel {}: {} bytes of parameters, at most 4096", kernel.name,
         dispatch.parameters.size());
  }
  if (dispatch.group_memory > info_.max_group_memory || dispatch.group_memory % 16 != 0) {
    fail("kernel {}: {} bytes of group memory: a multiple of 16, at most {}", kernel.name,
         dispatch.group_memory, info_.max_group_memory);
  }
  for (std::size_t i = 0; i < bound; ++i) {
    const bool is_parameters = i == dispatch.bindings.size();
    const std::uint64_t bytes =
        is_parameters ? dispatch.parameters.size() : dispatch.bindings[i].view.size;
    if (bytes < kernel.element_bytes[i]) {
      fail("kernel {}: {} bytes at buffer {}, an element has {}", kernel.name, bytes, i,
           kernel.element_bytes[i]);
    }
    if (!is_parameters) check_writes(kernel, i, dispatch.bindings[i]);
  }
}

// The program's account of a buffer, and the memory bound, must fit what the kernel can do to it.
void EmulatedDevice::check_writes(const msl::Kernel& kernel, std::size_t index,
                                  const Binding& binding) const {
  const bool may_write = (kernel.written >> index & 1U) != 0;
  const Memory& memory = buffers_.at(binding.view.buffer);
  if (may_write && memory.read_only) {
    fail("kernel {}: writes buffer {}, '{}', which is read-only", kernel.name, index, memory.label);
  }
  if (!may_write && binding.writes > 0) {
    fail("kernel {}: {} bytes written are accounted for buffer {}, which is const", kernel.name,
         binding.writes, index);
  }
}

void EmulatedDevice::run(const Dispatch& dispatch) const {
  if (dispatch.pipeline >= pipelines_.size()) {
    fail("kernel {}: no pipeline {}", dispatch.kernel, dispatch.pipeline);
  }
  const EmulatedPipeline& pipeline = pipelines_[dispatch.pipeline];
  check(dispatch, pipeline);
  std::vector<void*> buffers;
  for (const Binding& binding : dispatch.bindings) buffers.push_back(at(binding.view));
  if (!dispatch.parameters.empty()) {
    buffers.push_back(const_cast<std::byte*>(dispatch.parameters.data()));
  }
  msl::Launch launch;
  launch.kernel = pipeline.kernel;
  launch.buffers = buffers;
  launch.constants = pipeline.constants;
  launch.groups = {dispatch.groups[0], dispatch.groups[1], 1};
  launch.threads = {dispatch.threads, 1, 1};
  launch.group_memory = dispatch.group_memory;
  launch.order = order_;
  launch.resident = dispatch.resident;
  const OnlyBoundParts only_bound_parts(buffers_, dispatch);
  msl::execute(launch);
}

}  // namespace

std::unique_ptr<Device> open_emulated_device(const EmulatedOptions& options) {
  return std::make_unique<EmulatedDevice>(options);
}

std::unique_ptr<Device> open_emulated_device(Order order) {
  return open_emulated_device(EmulatedOptions{.order = order});
}

}  // namespace gander::gpu
