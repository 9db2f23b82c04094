#include "backend/gpu/metal/gpu_cores.h"

#include <dlfcn.h>

namespace gander::gpu::metal {
namespace {

using Ref = const void*;  // a Core Foundation object

// Looked up at run time: what is only nice to know must not be one more library to link.
template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

std::uint32_t gpu_cores(std::uint64_t registry_id) {
  constexpr std::uint32_t kUtf8 = 0x08000100;  // kCFStringEncodingUTF8
  constexpr long kInt32 = 3;                   // kCFNumberSInt32Type
  void* const library = dlopen("/System/Library/Frameworks/IOKit.framework/IOKit", RTLD_LAZY);
  if (library == nullptr) return 0;
  Ref (*matching)(std::uint64_t) = nullptr;
  std::uint32_t (*get_service)(std::uint32_t port, Ref matching) = nullptr;  // consumes matching
  Ref (*get_property)(std::uint32_t entry, Ref key, Ref allocator, std::uint32_t options) = nullptr;
  int (*release_entry)(std::uint32_t) = nullptr;
  Ref (*make_string)(Ref allocator, const char*, std::uint32_t encoding) = nullptr;
  bool (*get_number)(Ref number, long type, void* value) = nullptr;
  void (*release)(Ref) = nullptr;
  if (!find(library, "IORegistryEntryIDMatching", matching) ||
      !find(library, "IOServiceGetMatchingService", get_service) ||
      !find(library, "IORegistryEntryCreateCFProperty", get_property) ||
      !find(library, "IOObjectRelease", release_entry) ||
      !find(RTLD_DEFAULT, "CFStringCreateWithCString", make_string) ||
      !find(RTLD_DEFAULT, "CFNumberGetValue", get_number) ||
      !find(RTLD_DEFAULT, "CFRelease", release)) {
    return 0;
  }
  const std::uint32_t entry = get_service(0, matching(registry_id));
  if (entry == 0) return 0;
  std::uint32_t cores = 0;
  if (const Ref key = make_string(nullptr, "gpu-core-count", kUtf8)) {
    if (const Ref count = get_property(entry, key, nullptr, 0)) {
      if (!get_number(count, kInt32, &cores)) cores = 0;
      release(count);
    }
    release(key);
  }
  release_entry(entry);
  return cores;
}

}  // namespace gander::gpu::metal
