#include "tests/metal_standin/buffer.h"

#include "tests/metal_standin/standin.h"

#include <sys/mman.h>
#include <unistd.h>

namespace gander::standin {
namespace {

// MTLResourceOptions
constexpr UInteger kCacheModes = 0xf, kStorageModes = 0xf0, kTrackingModes = 0x300;
constexpr UInteger kShared = 0, kManaged = 1 << 4, kPrivate = 2 << 4, kUntracked = 1 << 8;

void check_options(UInteger options, std::string_view method) {
  if ((options & ~(kCacheModes | kStorageModes | kTrackingModes)) != 0 ||
      (options & kStorageModes) > kPrivate || (options & kTrackingModes) == kTrackingModes) {
    misuse("{}: {:#x} are no MTLResourceOptions", method, options);
  }
  if ((options & kStorageModes) == kManaged && settings().apple_silicon) {
    misuse("{}: managed storage is for discrete GPUs; use MTLStorageModeShared", method);
  }
}

void check_pages(const void* pages, UInteger length) {
  const auto page = static_cast<UInteger>(sysconf(_SC_PAGESIZE));
  if (reinterpret_cast<UInteger>(pages) % page != 0 || length % page != 0) {
    misuse(
        "newBufferWithBytesNoCopy: address {} and length {} must be multiples of the page size, "
        "{}",
        fmt::ptr(pages), length, page);
  }
  if (msync(const_cast<void*>(pages), length, MS_ASYNC) != 0) {
    misuse("newBufferWithBytesNoCopy: not all of the {} bytes at {} are mapped", length,
           fmt::ptr(pages));
  }
}

}  // namespace

Buffer::Buffer(Ref<Device> device, UInteger length, UInteger options)
    : Labelled(kClass), device_(std::move(device)), length_(length), options_(options) {
  check_options(options, "newBufferWithLength:options:");
  memory_.emplace(length);
  data_ = memory_->data();
  device_->allocated_bytes += length_;
}

Buffer::Buffer(Ref<Device> device, void* pages, UInteger length, UInteger options,
               const Block* deallocator)
    : Labelled(kClass),
      device_(std::move(device)),
      data_(static_cast<std::byte*>(pages)),
      length_(length),
      options_(options) {
  check_options(options, "newBufferWithBytesNoCopy:length:options:deallocator:");
  if ((options & kStorageModes) != kShared) {
    misuse("newBufferWithBytesNoCopy: the storage mode must be shared");
  }
  check_pages(pages, length);
  if (deallocator != nullptr) deallocator_.emplace(deallocator, "newBufferWithBytesNoCopy:");
  device_->allocated_bytes += length_;
}

Buffer::~Buffer() {
  check_surroundings("the program");
  if (deallocator_) deallocator_->call(data_, length_);
  device_->allocated_bytes -= length_;
}

bool Buffer::tracked() const {
  return (options_ & kTrackingModes) != kUntracked;
}

std::string Buffer::description() const {
  return fmt::format("buffer '{}' of {} bytes", label(), length_);
}

void Buffer::check_surroundings(std::string_view kernel) const {
  if (memory_ && !memory_->intact()) {
    misuse("{} wrote outside of the {}", kernel, description());
  }
}

void* Buffer::contents() {
  return (options_ & kStorageModes) == kPrivate ? nullptr : data_;
}

UInteger Buffer::set_purgeable_state(UInteger) {
  return 2;
}  // always NonVolatile

const Class Buffer::kClass{
    "MTLBuffer",
    {method<&Buffer::set_label>("setLabel:"), method<&Buffer::get_label>("label"),
     method<&Buffer::contents>("contents"), method<&Buffer::get_length>("length"),
     method<&Buffer::get_length>("allocatedSize"),
     method<&Buffer::resource_options>("resourceOptions"),
     method<&Buffer::gpu_address>("gpuAddress"),
     method<&Buffer::set_purgeable_state>("setPurgeableState:")}};

}  // namespace gander::standin
