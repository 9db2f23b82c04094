#include "tests/support/fake_cuda_driver.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

namespace gander::gpu {
namespace {

using cuda::Address;
using cuda::Driver;
using cuda::Result;

CudaRecord* record = nullptr;

Result answer(const std::string& call) {
  record->calls.push_back(call);
  const auto failure = record->failures.find(call);
  return failure == record->failures.end() ? 0 : failure->second;
}

template <typename Handle>
Result give(const std::string& call, Handle* handle) {
  static int object = 0;
  *handle = reinterpret_cast<Handle>(&object);
  return answer(call);
}

Result allocate(Address* address, std::size_t bytes) {
  if (const Result result = answer("MemAlloc"); result != 0) return result;
  *address = reinterpret_cast<Address>(std::malloc(bytes));
  record->memory[*address] = bytes;
  return 0;
}

Result release(Address address) {
  std::free(reinterpret_cast<void*>(address));
  record->memory.erase(address);
  return 0;
}

/// Lets the stream run until so many copies have happened.
void run_copies(std::uint64_t until) {
  for (; record->copied < until; ++record->copied) {
    const CudaCopy& copy = record->queued.front();
    std::memcpy(reinterpret_cast<void*>(copy.to), copy.from, copy.bytes);
    record->queued.pop_front();
  }
}

void run_all_copies() {
  run_copies(record->copied + record->queued.size());
}

bool is_locked(const std::byte* memory) {
  return std::ranges::any_of(record->locked, [&](const auto& locked) {
    return memory >= locked.first && memory < locked.first + locked.second;
  });
}

Result copy_to_device(Address to, const void* from, std::size_t bytes, cuda::Stream) {
  if (const Result result = answer("MemcpyHtoDAsync"); result != 0) return result;
  const auto* const begin = static_cast<const std::byte*>(from);
  record->queued.push_back({to, begin, bytes});
  // Of other memory the driver has made a copy when it returns.
  if (!is_locked(begin)) run_all_copies();
  return 0;
}

Result lock(void** memory, std::size_t bytes, unsigned) {
  if (const Result result = answer("MemHostAlloc"); result != 0) return result;
  *memory = std::malloc(bytes);
  record->locked[static_cast<const std::byte*>(*memory)] = bytes;
  return 0;
}

Result unlock(void* memory) {
  EXPECT_TRUE(record->queued.empty()) << "it is still copied from";
  EXPECT_EQ(record->locked.erase(static_cast<const std::byte*>(memory)), 1U);
  std::free(memory);
  return answer("MemFreeHost");
}

Result load_module(cuda::Module* module, const void* image, unsigned count, int* options,
                   void** values) {
  record->modules.emplace_back(static_cast<const char*>(image));
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == cuda::kErrorLogBuffer) {
      std::strcpy(static_cast<char*>(values[i]), "line 7:\nno such instruction");
    }
  }
  return give("ModuleLoadDataEx", module);
}

/// The kernel `add`: floats at buffer 0, as many as there are threads; the summand is the
/// parameter.
Result launch(const cuda::LaunchConfig* config, cuda::Function, void** parameters, void**) {
  const auto& [x, y, z] = config->groups;
  const unsigned threads = config->threads[0];
  record->group_memory = config->group_memory;
  std::string call = "LaunchKernelEx";
  for (const cuda::LaunchAttribute& attribute :
       std::span(config->attributes, config->attribute_count)) {
    if (attribute.value != 1) continue;
    if (attribute.id == cuda::kCooperative) call += " together";
    if (attribute.id == cuda::kProgrammaticStream) call += " early";
  }
  if (const Result result = answer(call); result != 0) return result;
  run_all_copies();
  struct Arguments {
    float* values;
    alignas(16) float summand;
  };
  const auto* arguments = static_cast<const Arguments*>(parameters[0]);
  for (unsigned i = 0; i < x * y * z * threads; ++i) arguments->values[i] += arguments->summand;
  return 0;
}

}  // namespace

cuda::Driver fake_cuda_driver(CudaRecord& kept) {
  record = &kept;
  Driver driver{};
  driver.Init = [](unsigned) { return answer("Init"); };
  driver.GetErrorName = [](Result, const char** name) { return *name = "CUDA_ERROR_X", 0; };
  driver.GetErrorString = [](Result, const char** text) { return *text = "what happened", 0; };
  driver.DeviceGetCount = [](int* count) { return *count = 2, answer("DeviceGetCount"); };
  driver.DeviceGet = [](int* device, int ordinal) {
    return *device = ordinal, answer("DeviceGet");
  };
  driver.DeviceGetName = [](char* name, int, int) {
    std::strcpy(name, "NVIDIA of the test");
    return 0;
  };
  driver.DeviceGetAttribute = [](int* value, int attribute, int) {
    *value = attribute == cuda::kMajorCapability     ? record->major_capability
             : attribute == cuda::kMinorCapability   ? record->minor_capability
             : attribute == cuda::kMaxGroupMemory    ? record->max_group_memory
             : attribute == cuda::kCooperativeLaunch ? record->cooperates
             : attribute == cuda::kMultiprocessors   ? 132
                                                     : 0;
    return 0;
  };
  driver.DeviceTotalMem = [](std::size_t* bytes, int) { return *bytes = record->total_bytes, 0; };
  driver.DevicePrimaryCtxRetain = [](cuda::Context* context, int) {
    return give("DevicePrimaryCtxRetain", context);
  };
  driver.DevicePrimaryCtxRelease = [](int) { return answer("DevicePrimaryCtxRelease"); };
  driver.CtxSetCurrent = [](cuda::Context) { return 0; };
  driver.MemAlloc = allocate;
  driver.MemFree = release;
  driver.MemGetInfo = [](std::size_t* free, std::size_t* total) {
    return *free = record->free_bytes, *total = record->total_bytes, 0;
  };
  driver.MemsetD8Async = [](Address to, unsigned char value, std::size_t bytes, cuda::Stream) {
    std::memset(reinterpret_cast<void*>(to), value, bytes);
    return answer("MemsetD8Async");
  };
  driver.MemHostAlloc = lock;
  driver.MemFreeHost = unlock;
  driver.MemcpyHtoDAsync = copy_to_device;
  driver.MemcpyDtoHAsync = [](void* to, Address from, std::size_t bytes, cuda::Stream) {
    run_all_copies();
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return answer("MemcpyDtoHAsync");
  };
  driver.MemcpyDtoDAsync = [](Address to, Address from, std::size_t bytes, cuda::Stream) {
    run_all_copies();
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return answer("MemcpyDtoDAsync");
  };
  driver.ModuleLoadDataEx = load_module;
  driver.ModuleUnload = [](cuda::Module) { return answer("ModuleUnload"); };
  driver.ModuleGetFunction = [](cuda::Function* function, cuda::Module, const char* name) {
    return give("ModuleGetFunction " + std::string(name), function);
  };
  driver.FuncGetAttribute = [](int* value, int, cuda::Function) {
    return *value = record->max_threads, 0;
  };
  driver.FuncSetAttribute = [](cuda::Function, int, int value) {
    return answer("FuncSetAttribute " + std::to_string(value));
  };
  driver.LaunchKernelEx = launch;
  driver.StreamCreate = [](cuda::Stream* stream, unsigned) { return give("StreamCreate", stream); };
  driver.StreamDestroy = [](cuda::Stream) { return answer("StreamDestroy"); };
  driver.StreamSynchronize = [](cuda::Stream) {
    run_all_copies();
    return answer("StreamSynchronize");
  };
  driver.StreamWaitEvent = [](cuda::Stream, cuda::Event, unsigned) {
    return answer("StreamWaitEvent");
  };
  driver.EventCreate = [](cuda::Event* event, unsigned) {
    *event = reinterpret_cast<cuda::Event>(++record->events);
    return answer("EventCreate");
  };
  driver.EventDestroy = [](cuda::Event) { return answer("EventDestroy"); };
  driver.EventRecord = [](cuda::Event event, cuda::Stream) {
    record->marks[event] = record->copied + record->queued.size();
    return answer("EventRecord");
  };
  driver.EventSynchronize = [](cuda::Event event) {
    run_copies(record->marks.at(event));
    return answer("EventSynchronize");
  };
  return driver;
}

std::unique_ptr<Device> CudaDeviceTest::open(int ordinal) {
  return open_cuda_device({ordinal, &driver_, kAddModules});
}

Dispatch CudaDeviceTest::add(Device& device, const View& view, float summand) {
  Dispatch dispatch;
  dispatch.kernel = "add";
  dispatch.pipeline = device.pipeline("add", kAddConstants).id;
  dispatch.bindings = {{view}};
  dispatch.parameters.resize(sizeof summand);
  std::memcpy(dispatch.parameters.data(), &summand, sizeof summand);
  dispatch.threads = static_cast<std::uint32_t>(view.size / sizeof(float));
  return dispatch;
}

}  // namespace gander::gpu
