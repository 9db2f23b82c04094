#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

// The functions of NVIDIA's driver (libcuda.so.1) that gander calls, found at run time: building
// needs no CUDA headers, and a computer without the driver runs the same executable. Types and
// numbers are those of the documented binary interface of the driver API.
namespace gander::gpu::cuda {

using Result = int;  ///< CUresult; 0 is success
using DeviceHandle = int;
using Address = std::uint64_t;  ///< CUdeviceptr
using Context = struct ContextObject*;
using Module = struct ModuleObject*;
using Function = struct FunctionObject*;
using Stream = struct StreamObject*;
using Event = struct EventObject*;

inline constexpr int kCooperativeLaunch = 95;  // of CUdevice_attribute
inline constexpr int kMaxGroupMemory = 97;     // what a kernel may opt in to
inline constexpr int kMultiprocessors = 16;
inline constexpr int kMajorCapability = 75;
inline constexpr int kMinorCapability = 76;

inline constexpr int kFunctionMaxThreads = 0;  // of CUfunction_attribute
inline constexpr int kFunctionGroupMemory = 8;

/// Group memory that a kernel has without opting in to more.
inline constexpr unsigned kPlainGroupMemory = 48 << 10;

inline constexpr int kErrorLogBuffer = 5;  // of CUjit_option
inline constexpr int kErrorLogBytes = 6;

inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;

inline constexpr Result kOutOfMemory = 2;

/// CUlaunchAttribute: a number that says what it is about, and a value.
struct LaunchAttribute {
  int id = 0;
  int padding = 0;
  int value = 0;
  std::array<int, 15> unused{};
};
inline constexpr int kCooperative = 2;  // its blocks all run at once
/// Its blocks may be started before the kernel before it has ended, and wait for that themselves
/// (griddepcontrol.wait).
inline constexpr int kProgrammaticStream = 6;

/// CUlaunchConfig.
struct LaunchConfig {
  std::array<unsigned, 3> groups{};
  std::array<unsigned, 3> threads{};
  unsigned group_memory = 0;
  Stream stream = nullptr;
  LaunchAttribute* attributes = nullptr;
  unsigned attribute_count = 0;
};

/// Named like the driver's functions without `cu`. A test may fill the table with its own.
struct Driver {
  Result (*Init)(unsigned flags);
  Result (*GetErrorName)(Result, const char** name);
  Result (*GetErrorString)(Result, const char** text);
  Result (*DriverGetVersion)(int* version);

  Result (*DeviceGetCount)(int* count);
  Result (*DeviceGet)(DeviceHandle*, int ordinal);
  Result (*DeviceGetName)(char* name, int length, DeviceHandle);
  Result (*DeviceGetAttribute)(int* value, int attribute, DeviceHandle);
  Result (*DeviceTotalMem)(std::size_t* bytes, DeviceHandle);
  Result (*DevicePrimaryCtxRetain)(Context*, DeviceHandle);
  Result (*DevicePrimaryCtxRelease)(DeviceHandle);
  Result (*CtxSetCurrent)(Context);

  Result (*MemAlloc)(Address*, std::size_t bytes);
  Result (*MemFree)(Address);
  Result (*MemHostAlloc)(void**, std::size_t bytes, unsigned flags);
  Result (*MemFreeHost)(void*);
  Result (*MemGetInfo)(std::size_t* free, std::size_t* total);
  Result (*MemsetD8Async)(Address, unsigned char value, std::size_t bytes, Stream);
  Result (*MemcpyHtoDAsync)(Address to, const void* from, std::size_t bytes, Stream);
  Result (*MemcpyDtoHAsync)(void* to, Address from, std::size_t bytes, Stream);
  Result (*MemcpyDtoDAsync)(Address to, Address from, std::size_t bytes, Stream);

  Result (*ModuleLoadDataEx)(Module*, const void* image, unsigned count, int* options,
                             void** values);
  Result (*ModuleUnload)(Module);
  Result (*ModuleGetFunction)(Function*, Module, const char* name);
  Result (*FuncGetAttribute)(int* value, int attribute, Function);
  Result (*FuncSetAttribute)(Function, int attribute, int value);
  Result (*LaunchKernelEx)(const LaunchConfig*, Function, void** parameters, void** extra);

  Result (*StreamCreate)(Stream*, unsigned flags);
  Result (*StreamDestroy)(Stream);
  Result (*StreamSynchronize)(Stream);
  Result (*StreamWaitEvent)(Stream, Event, unsigned flags);
  Result (*EventCreate)(Event*, unsigned flags);
  Result (*EventDestroy)(Event);
  Result (*EventRecord)(Event, Stream);
  Result (*EventSynchronize)(Event);

  /// "CUDA_ERROR_OUT_OF_MEMORY (out of memory)".
  std::string describe(Result) const;
};

/// Whether this computer has libcuda.so.1, whatever comes of it.
bool driver_is_installed();

/// The driver of this computer, loaded once and never unloaded. Throws Error when there is none, or
/// when it lacks a function.
const Driver& load_driver();

}  // namespace gander::gpu::cuda
