#include "backend/gpu/cuda/driver.h"

#include <dlfcn.h>

#include "base/error.h"

namespace gander::gpu::cuda {

namespace {

template <typename Pointer>
void find(void* library, const char* name, Pointer& function) {
  function = reinterpret_cast<Pointer>(dlsym(library, name));
  if (function == nullptr) {
    fail("CUDA: the driver lacks {}: install an NVIDIA driver of CUDA 12.5 or later", name);
  }
}

// Never unloaded.
void* open_library() {
  return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
}

Driver load() {
  void* const library = open_library();
  if (library == nullptr) {
    fail("CUDA: no NVIDIA driver ({}): install one, or choose another backend", dlerror());
  }
  Driver driver{};
  // A suffix is the version of a function's binary interface.
  find(library, "cuInit", driver.Init);
  find(library, "cuGetErrorName", driver.GetErrorName);
  find(library, "cuGetErrorString", driver.GetErrorString);
  find(library, "cuDriverGetVersion", driver.DriverGetVersion);
  find(library, "cuDeviceGetCount", driver.DeviceGetCount);
  find(library, "cuDeviceGet", driver.DeviceGet);
  find(library, "cuDeviceGetName", driver.DeviceGetName);
  find(library, "cuDeviceGetAttribute", driver.DeviceGetAttribute);
  find(library, "cuDeviceTotalMem_v2", driver.DeviceTotalMem);
  find(library, "cuDevicePrimaryCtxRetain", driver.DevicePrimaryCtxRetain);
  find(library, "cuDevicePrimaryCtxRelease_v2", driver.DevicePrimaryCtxRelease);
  find(library, "cuCtxSetCurrent", driver.CtxSetCurrent);
  find(library, "cuMemAlloc_v2", driver.MemAlloc);
  find(library, "cuMemFree_v2", driver.MemFree);
  find(library, "cuMemHostAlloc", driver.MemHostAlloc);
  find(library, "cuMemFreeHost", driver.MemFreeHost);
  find(library, "cuMemGetInfo_v2", driver.MemGetInfo);
  find(library, "cuMemsetD8Async", driver.MemsetD8Async);
  find(library, "cuMemcpyHtoDAsync_v2", driver.MemcpyHtoDAsync);
  find(library, "cuMemcpyDtoHAsync_v2", driver.MemcpyDtoHAsync);
  find(library, "cuMemcpyDtoDAsync_v2", driver.MemcpyDtoDAsync);
  find(library, "cuModuleLoadDataEx", driver.ModuleLoadDataEx);
  find(library, "cuModuleUnload", driver.ModuleUnload);
  find(library, "cuModuleGetFunction", driver.ModuleGetFunction);
  find(library, "cuFuncGetAttribute", driver.FuncGetAttribute);
  find(library, "cuFuncSetAttribute", driver.FuncSetAttribute);
  find(library, "cuLaunchKernelEx", driver.LaunchKernelEx);
  find(library, "cuStreamCreate", driver.StreamCreate);
  find(library, "cuStreamDestroy_v2", driver.StreamDestroy);
  find(library, "cuStreamSynchronize", driver.StreamSynchronize);
  find(library, "cuStreamWaitEvent", driver.StreamWaitEvent);
  find(library, "cuEventCreate", driver.EventCreate);
  find(library, "cuEventDestroy_v2", driver.EventDestroy);
  find(library, "cuEventRecord", driver.EventRecord);
  find(library, "cuEventSynchronize", driver.EventSynchronize);
  return driver;
}

}  // namespace

std::string Driver::describe(Result result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (GetErrorName(result, &name) != 0 || GetErrorString(result, &text) != 0) {
    return fmt::format("error {}", result);
  }
  return fmt::format("{} ({})", name, text);
}

bool driver_is_installed() {
  return open_library() != nullptr;
}

const Driver& load_driver() {
  static const Driver driver = load();
  return driver;
}

}  // namespace gander::gpu::cuda
