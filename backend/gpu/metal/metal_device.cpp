#include "backend/gpu/metal/metal_device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "backend/gpu/metal/dispatch_encoder.h"
#include "backend/gpu/metal/gpu_cores.h"

namespace gander::gpu::metal {
namespace {

// Memory that the CPU and the GPU share. Untracked: Metal would compare the buffers of every
// dispatch with those before it; the program says itself where it must wait. Not write-combined:
// states and logits are read back, and what the CPU writes, it writes once.
constexpr auto kBufferOptions =
    ResourceOptions::StorageModeShared | ResourceOptions::HazardTrackingModeUntracked;

DeviceInfo describe_gpu(MetalGpu gpu, const KernelLibrary& kernels) {
  DeviceInfo info;
  info.name = to_text(gpu.name());
  info.max_threads = 1024;  // of every Apple GPU; a pipeline knows its own limit
  info.max_group_memory = static_cast<std::uint32_t>(gpu.max_threadgroup_memory_length());
  info.max_buffer_bytes = gpu.max_buffer_length();
  info.working_set_bytes = gpu.recommended_max_working_set_size();
  info.cores = gpu_cores(gpu.registry_id());
  info.wraps_memory = true;
  info.page_bytes = static_cast<std::uint64_t>(getpagesize());
  info.device_fences = kernels.metal_3_2;
  return info;
}

}  // namespace

MetalDevice::MetalDevice(Retained<MetalGpu> gpu, const MetalOptions& options)
    : gpu_(std::move(gpu)), kernels_(open_kernel_library(gpu_.get())) {
  const AutoreleasePool pool;
  info_ = describe_gpu(gpu_.get(), kernels_);
  const auto folder = options.cache_folder.value_or(default_cache_folder());
  if (!folder.empty()) archive_ = PipelineArchive(gpu_.get(), folder, kernels_.hash);
  if (!options.capture_path.empty()) {
    capture_ = Capture(options.capture_path, options.capture_submissions);
  }
  label_ = retain(make_string("gander"));
  make_queue();
}

void MetalDevice::make_queue() {
  queue_ = gpu_->new_command_queue(Completions::kMaxUnderWay);
  fence_ = gpu_->new_fence();
  if (!queue_ || !fence_) fail("{}: Metal makes no command queue", info_.name);
  queue_->set_label(label_.get());
  fence_->set_label(label_.get());

  command_buffer_descriptor_ = make_object<CommandBufferDescriptor>();
  // The device owns everything that its command buffers use, and waits for them before it goes.
  command_buffer_descriptor_->set_retained_references(false);
  command_buffer_descriptor_->set_error_options(ErrorOption::EncoderExecutionStatus);

  // One set keeps all buffers resident while the queue works, weights that a token happens not to
  // touch for a while included. On macOS 14 each command buffer makes resident what its dispatches
  // bind; all buffers are bound by index, none is reached through a pointer, so nothing is missed.
  if (!gpu_->has_residency_sets()) return;
  const auto descriptor = make_object<ResidencySetDescriptor>();
  descriptor->set_label(label_.get());
  NSError error;
  residency_ = gpu_->new_residency_set(descriptor.get(), error);
  if (!residency_) fail("{}: Metal makes no residency set: {}", info_.name, describe(error));
  queue_->add_residency_set(residency_.get());
}

MetalDevice::~MetalDevice() {
  const AutoreleasePool pool;
  completions_->wait(counters_.submissions);
  capture_.stop();
  archive_.save();
  if (residency_) residency_->end_residency();
}

std::uint32_t MetalDevice::add_buffer(Retained<Buffer> buffer, bool writable, std::uint64_t bytes,
                                      std::string_view label) {
  if (!buffer) {
    fail(
        "{}: no memory for {} ({} bytes; {} of the {} that macOS recommends are taken): close "
        "other "
        "programs, or choose a smaller model",
        info_.name, label, bytes, allocated_bytes(), info_.working_set_bytes);
  }
  buffer->set_label(make_string(std::string(label)));
  if (residency_) {
    residency_->add(buffer.get());
    residency_changed_ = true;
  }
  buffers_.push_back(std::move(buffer));
  writable_.push_back(writable);
  return static_cast<std::uint32_t>(buffers_.size() - 1);
}

std::uint32_t MetalDevice::allocate(std::uint64_t bytes, std::string_view label) {
  const AutoreleasePool pool;
  if (bytes == 0 || bytes > info_.max_buffer_bytes) {
    fail("{}: a buffer of {} bytes for {}: 1 to {} are possible", info_.name, bytes, label,
         info_.max_buffer_bytes);
  }
  // Metal fills new buffers with zeros.
  return add_buffer(gpu_->new_buffer(bytes, kBufferOptions), true, bytes, label);
}

std::uint32_t MetalDevice::wrap(std::span<const std::byte> pages, std::string_view label) {
  const AutoreleasePool pool;
  const auto address = reinterpret_cast<std::uintptr_t>(pages.data());
  if (pages.empty() || address % info_.page_bytes != 0 || pages.size() % info_.page_bytes != 0 ||
      pages.size() > info_.max_buffer_bytes) {
    fail("{}: {} bytes at {:#x} for {}: Metal wraps whole pages of {} bytes, at most {} bytes",
         info_.name, pages.size(), address, label, info_.page_bytes, info_.max_buffer_bytes);
  }
  // No kernel writes to it: Metal has no type for memory that is only read.
  auto* const memory = const_cast<std::byte*>(pages.data());
  return add_buffer(gpu_->new_buffer_over(memory, pages.size(), kBufferOptions), false,
                    pages.size(), label);
}

std::byte* MetalDevice::memory_of(const View& view, std::size_t size) const {
  if (view.buffer >= buffers_.size()) fail("{}: there is no buffer {}", info_.name, view.buffer);
  const auto& buffer = buffers_[view.buffer];
  const std::uint64_t length = buffer->length();
  if (size > view.size || view.offset > length || view.size > length - view.offset) {
    fail("{}: {} bytes of a view of {} at {} in buffer {}, which has {}", info_.name, size,
         view.size, view.offset, view.buffer, length);
  }
  return static_cast<std::byte*>(buffer->contents()) + view.offset;
}

void MetalDevice::write(const View& view, std::span<const std::byte> bytes) {
  auto* const memory = memory_of(view, bytes.size());
  if (!writable_[view.buffer]) fail("{}: buffer {} is only read", info_.name, view.buffer);
  std::memcpy(memory, bytes.data(), bytes.size());
}

void MetalDevice::read(const View& view, std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), memory_of(view, bytes.size()), bytes.size());
}

std::uint64_t MetalDevice::allocated_bytes() const {
  return gpu_->current_allocated_size();
}

PipelineInfo MetalDevice::pipeline(std::string_view function,
                                   std::span<const FunctionConstant> constants) {
  const auto made = std::find_if(specialisations_.begin(), specialisations_.end(),
                                 [&](const Specialisation& specialisation) {
                                   return specialisation.function == function &&
                                          std::ranges::equal(specialisation.constants, constants);
                                 });
  if (made != specialisations_.end()) return made->info;

  const AutoreleasePool pool;
  const auto specialised = kernels_.function(function, constants);
  const auto descriptor = make_object<PipelineDescriptor>();
  descriptor->set_compute_function(specialised.get());
  descriptor->set_label(make_string(std::string(function)));
  descriptor->set_group_size_is_multiple_of_execution_width(true);
  NSError error;
  auto state = archive_.pipeline(gpu_.get(), descriptor.get(), error);
  if (!state) fail("kernel {}: Metal makes no pipeline: {}", function, describe(error));
  if (const auto width = state->thread_execution_width(); width != 32) {
    fail("kernel {}: SIMD groups of {} threads on {}: gander needs 32, as on Apple silicon",
         function, width, info_.name);
  }
  const PipelineInfo info = {
      static_cast<std::uint32_t>(pipelines_.size()),
      static_cast<std::uint32_t>(state->max_total_threads_per_threadgroup())};
  pipelines_.push_back(std::move(state));
  specialisations_.push_back({std::string(function), {constants.begin(), constants.end()}, info});
  return info;
}

void MetalDevice::encode(CommandBuffer command_buffer, std::span<const Dispatch> dispatches) {
  const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
  if (!encoder) fail("{}: Metal makes no compute encoder", info_.name);
  encoder.set_label(label_.get());
  // Command buffers of one queue may overlap where Metal sees no hazard, and it looks for none
  // between untracked buffers. So each waits for the fence that the one before it updates.
  encoder.wait_for(fence_.get());
  DispatchEncoder writer(encoder, buffers_, pipelines_);
  const bool grouped = capture_.active() && !dispatches.empty();
  for (std::size_t i = 0; i < dispatches.size(); ++i) {
    // Xcode shows a capture by layers; nobody else looks at the groups.
    if (grouped && (i == 0 || dispatches[i].layer != dispatches[i - 1].layer)) {
      if (i > 0) encoder.pop_debug_group();
      encoder.push_debug_group(make_string(fmt::format("layer {}", dispatches[i].layer)));
    }
    writer.encode(dispatches[i]);
  }
  if (grouped) encoder.pop_debug_group();
  encoder.update(fence_.get());
  encoder.end_encoding();
}

std::uint64_t MetalDevice::submit(std::span<const Dispatch> dispatches) {
  const AutoreleasePool pool;
  const auto number = counters_.submissions + 1;
  // Metal itself would block when so many are under way.
  constexpr auto kMaxUnderWay = Completions::kMaxUnderWay;
  if (number > kMaxUnderWay) completions_->wait(number - kMaxUnderWay);
  completions_->throw_failure();
  if (residency_changed_) {
    residency_->commit();
    residency_->request_residency();
    residency_changed_ = false;
  }
  const bool captured = capture_.active();
  if (captured) capture_.begin_submission(queue_.get());
  const auto command_buffer = queue_->command_buffer(command_buffer_descriptor_.get());
  if (!command_buffer) fail("{}: Metal makes no command buffer", info_.name);
  command_buffer.set_label(label_.get());
  encode(command_buffer, dispatches);
  command_buffer.add_completed_handler(completion_block_.get());
  completions_->expect(number, dispatches);
  command_buffer.commit();

  counters_.submissions = number;
  counters_.dispatches += dispatches.size();
  counters_.barriers +=
      static_cast<std::uint64_t>(std::ranges::count(dispatches, true, &Dispatch::barrier));
  if (captured && capture_.end_submission()) {
    completions_->wait(number);
    capture_.stop();
  }
  return number;
}

void MetalDevice::wait(std::uint64_t number) {
  if (number > counters_.submissions) {
    fail("{}: submission {} is waited for, {} were made", info_.name, number,
         counters_.submissions);
  }
  if (number > waited_for_) {
    ++counters_.waits;
    completions_->wait(number);
    waited_for_ = number;
    counters_.gpu_seconds = completions_->gpu_seconds();
  }
  completions_->throw_failure();
}

}  // namespace gander::gpu::metal
