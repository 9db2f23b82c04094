#include "tests/metal_standin/device.h"

#include "tests/metal_standin/command_queue.h"
#include "tests/metal_standin/pipeline.h"
#include "tests/metal_standin/residency_set.h"

#include <cstring>

namespace gander::standin {
namespace {

constexpr long kApple9 = 1009, kMac2 = 2002, kMetal3 = 5001;  // MTLGPUFamily

bool fits(const Device& device, UInteger length) {
  return length <= settings().max_buffer_bytes &&
         device.allocated_bytes + length <= failures().allocation_after;
}

}  // namespace

Device::Device() : Object(kClass) {}

String* Device::name() {
  return autoreleased(string(settings().apple_silicon ? "Apple stand-in" : "AMD stand-in"));
}
bool Device::has_unified_memory() {
  return settings().apple_silicon;
}

bool Device::supports_family(long family) {
  if (family == kMac2 || family == kMetal3) return true;
  return settings().apple_silicon && family <= kApple9;
}

UInteger Device::max_buffer_length() {
  return settings().max_buffer_bytes;
}
UInteger Device::max_threadgroup_memory_length() {
  return 32 << 10;
}
Size Device::max_threads_per_threadgroup() {
  return {1024, 1024, 1024};
}
UInteger Device::recommended_max_working_set_size() {
  return settings().working_set_bytes;
}

Object* Device::new_command_queue() {
  return new_command_queue_of(64);
}

Object* Device::new_command_queue_of(UInteger max_command_buffers) {
  return owned(make<CommandQueue>(Ref<Device>(this), max_command_buffers));
}

Object* Device::new_fence() {
  return owned(make<Fence>(Ref<Device>(this)));
}

Object* Device::new_buffer(UInteger length, UInteger options) {
  if (length == 0) misuse("newBufferWithLength:0");
  if (!fits(*this, length)) return nullptr;
  return owned(make<Buffer>(Ref<Device>(this), length, options));
}

Object* Device::new_buffer_with(const void* bytes, UInteger length, UInteger options) {
  if (length == 0 || bytes == nullptr) misuse("newBufferWithBytes: of nothing");
  if (!fits(*this, length)) return nullptr;
  auto buffer = make<Buffer>(Ref<Device>(this), length, options);
  std::memcpy(buffer->data(), bytes, length);
  return owned(buffer);
}

Object* Device::new_buffer_over(void* pages, UInteger length, UInteger options,
                                const void* deallocator) {
  if (length == 0 || pages == nullptr) misuse("newBufferWithBytesNoCopy: of nothing");
  if (!fits(*this, length)) return nullptr;
  return owned(make<Buffer>(Ref<Device>(this), pages, length, options,
                            static_cast<const Block*>(deallocator)));
}

Object* Device::new_library(String* source, Object* options, Error** error) {
  return compile(Ref<Device>(this), source, options, error);
}

Object* Device::new_pipeline(Object* function, Error** error) {
  return make_pipeline(Ref<Device>(this), static_cast<Function*>(function), error);
}

Object* Device::new_pipeline_described(Object* descriptor, UInteger options, Object** reflection,
                                       Error** error) {
  if (reflection != nullptr) misuse("newComputePipelineState: reflection is not modelled");
  return make_pipeline(Ref<Device>(this), static_cast<PipelineDescriptor*>(descriptor), options,
                       error);
}

Object* Device::new_binary_archive(Object* descriptor, Error** error) {
  return open_archive(Ref<Device>(this), static_cast<BinaryArchiveDescriptor*>(descriptor), error);
}

Object* Device::new_residency_set(Object* descriptor, Error**) {
  if (descriptor == nullptr) misuse("newResidencySetWithDescriptor: with nil");
  auto set = make<ResidencySet>(Ref<Device>(this));
  set->set_label(static_cast<ResidencySetDescriptor*>(descriptor)->get_label());
  return owned(set);
}

Fence::Fence(Ref<Device> device) : Labelled(kClass), device_(std::move(device)) {}

const Class Fence::kClass{
    "MTLFence", {method<&Fence::set_label>("setLabel:"), method<&Fence::get_label>("label")}};

const Class Device::kClass{
    "MTLDevice",
    {method<&Device::name>("name"),
     method<&Device::registry_id>("registryID"),
     method<&Device::has_unified_memory>("hasUnifiedMemory"),
     method<&Device::supports_family>("supportsFamily:"),
     method<&Device::max_buffer_length>("maxBufferLength"),
     method<&Device::max_threadgroup_memory_length>("maxThreadgroupMemoryLength"),
     method<&Device::max_threads_per_threadgroup>("maxThreadsPerThreadgroup"),
     method<&Device::recommended_max_working_set_size>("recommendedMaxWorkingSetSize"),
     method<&Device::current_allocated_size>("currentAllocatedSize"),
     method<&Device::new_command_queue>("newCommandQueue"),
     method<&Device::new_command_queue_of>("newCommandQueueWithMaxCommandBufferCount:"),
     method<&Device::new_fence>("newFence"),
     method<&Device::new_buffer>("newBufferWithLength:options:"),
     method<&Device::new_buffer_with>("newBufferWithBytes:length:options:"),
     method<&Device::new_buffer_over>("newBufferWithBytesNoCopy:length:options:deallocator:"),
     method<&Device::new_library>("newLibraryWithSource:options:error:"),
     method<&Device::new_pipeline>("newComputePipelineStateWithFunction:error:"),
     method<&Device::new_pipeline_described>(
         "newComputePipelineStateWithDescriptor:options:reflection:error:"),
     method<&Device::new_binary_archive>("newBinaryArchiveWithDescriptor:error:"),
     method<&Device::new_residency_set>("newResidencySetWithDescriptor:error:", 15)}};

}  // namespace gander::standin

using gander::standin::Array;
using gander::standin::Device;
using gander::standin::make;
using gander::standin::Object;
using gander::standin::Ref;

extern "C" {

Object* MTLCreateSystemDefaultDevice() {
  return gander::standin::settings().has_device ? owned(make<Device>()) : nullptr;
}

Object* MTLCopyAllDevices() {
  std::vector<Ref<Object>> devices;
  if (gander::standin::settings().has_device) devices.push_back(Ref<Object>::adopt(new Device));
  return owned(make<Array>(std::move(devices)));
}

}  // extern "C"
