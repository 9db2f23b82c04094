#include <gmock/gmock.h>

#include <cstring>
#include <deque>
#include <map>
#include <span>

#include "backend/gpu/cuda/cuda_device.h"
#include "base/error.h"

// The device over a driver of our own, whose kernel adds a number to every float of a buffer: what
// is asked of the driver, in which order, and what its errors become. What a GPU computes is tested
// by the tests of the kernels (script/gpu-test).
namespace gander::gpu {
namespace {

using cuda::Address;
using cuda::Driver;
using cuda::Result;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr Result kIllegalAddress = 700;

struct Copy {
  Address to;
  const std::byte* from;
  std::size_t bytes;
};

/// What the driver of the test was asked to do, and what it is told to answer.
struct Record {
  std::vector<std::string> calls;
  std::map<std::string, Result> failures;  ///< call → what it returns
  std::map<Address, std::size_t> memory;
  /// Memory of the CPU that the GPU copies from by itself → bytes.
  std::map<const std::byte*, std::size_t> locked;
  std::deque<Copy> queued;                     ///< such copies, which happen as late as they may
  std::uint64_t copied = 0;                    ///< that have happened
  std::map<cuda::Event, std::uint64_t> marks;  ///< event → copies before it
  std::uintptr_t events = 0;
  int capability = 9;
  int max_threads = 256;
  int cooperates = 0;
  std::string module;
  unsigned group_memory = 0;
};
Record* record = nullptr;  // a driver's functions have no other place to look

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
    const Copy& copy = record->queued.front();
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
  record->module = static_cast<const char*>(image);
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

Driver fake_driver() {
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
    *value = attribute == cuda::kMajorCapability     ? record->capability
             : attribute == cuda::kMaxGroupMemory    ? 48 << 10
             : attribute == cuda::kCooperativeLaunch ? record->cooperates
             : attribute == cuda::kMultiprocessors   ? 132
                                                     : 0;
    return 0;
  };
  driver.DeviceTotalMem = [](std::size_t* bytes, int) { return *bytes = 80U << 20, 0; };
  driver.DevicePrimaryCtxRetain = [](cuda::Context* context, int) {
    return give("DevicePrimaryCtxRetain", context);
  };
  driver.DevicePrimaryCtxRelease = [](int) { return answer("DevicePrimaryCtxRelease"); };
  driver.CtxSetCurrent = [](cuda::Context) { return 0; };
  driver.MemAlloc = allocate;
  driver.MemFree = release;
  driver.MemGetInfo = [](std::size_t* free, std::size_t* total) {
    return *free = 3U << 20, *total = 80U << 20, 0;
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

constexpr std::string_view kModule = R"(
.visible .entry add(
	.param .align 16 .b8 add_param_0[20]
)
{
  mov.b32 %r1, gander_constant_0;
}
)";
constexpr std::array kModules = {kModule};
constexpr std::array kConstants = {FunctionConstant{0, false, 64}};

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override { record = &record_; }

  std::unique_ptr<Device> open(int ordinal = 0) {
    return open_cuda_device({ordinal, &driver_, kModules});
  }

  /// A dispatch of `add` on the view.
  static Dispatch add(Device& device, const View& view, float summand) {
    Dispatch dispatch;
    dispatch.kernel = "add";
    dispatch.pipeline = device.pipeline("add", kConstants).id;
    dispatch.bindings = {{view}};
    dispatch.parameters.resize(sizeof summand);
    std::memcpy(dispatch.parameters.data(), &summand, sizeof summand);
    dispatch.threads = static_cast<std::uint32_t>(view.size / sizeof(float));
    return dispatch;
  }

  template <typename Action>
  static std::string error_of(Action action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  Record record_;
  Driver driver_ = fake_driver();
};

TEST_F(CudaDevice, DescribesItself) {
  const DeviceInfo info = open(1)->info();
  EXPECT_EQ(info.name, "NVIDIA of the test");
  EXPECT_EQ(info.cores, 132U);
  EXPECT_EQ(info.max_group_memory, 48U << 10);
  EXPECT_EQ(info.working_set_bytes, 80U << 20);
  EXPECT_EQ(info.free_bytes, 3U << 20);
  EXPECT_FALSE(info.wraps_memory);
  EXPECT_TRUE(info.device_fences);
  EXPECT_EQ(info.resident_groups, 0U);
}

TEST_F(CudaDevice, MemoryBeginsAsZerosAndKeepsWhatIsWritten) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(16, "numbers");
  device->write({buffer, 4, 4}, std::as_bytes(std::span("abc")));
  std::array<char, 16> read{};
  device->read({buffer, 0, 16}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(std::string_view(read.data(), 16), std::string_view("\0\0\0\0abc\0\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(device->allocated_bytes(), 16U);
  EXPECT_THAT(error_of([&] {
                device->write({buffer, 13, 4}, std::as_bytes(std::span("abc")));
              }),
              HasSubstr("4 bytes at 13 of a buffer of 16"));
}

TEST_F(CudaDevice, RunsDispatchesInOrderWithTheirArguments) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(64 * sizeof(float), "numbers");
  Dispatch first = add(*device, {buffer, 0, 128}, 1);
  Dispatch second = add(*device, {buffer, 16, 64}, 10);
  second.barrier = false;
  second.group_memory = 4096;
  const std::array dispatches = {first, second};
  const std::uint64_t number = device->submit(dispatches);
  device->wait(number);
  std::array<float, 6> read{};
  device->read({buffer, 0, sizeof read}, std::as_writable_bytes(std::span(read)));
  EXPECT_THAT(read, ElementsAre(1, 1, 1, 1, 11, 11));
  EXPECT_EQ(record_.group_memory, 4096U);
  EXPECT_EQ(number, 1U);
  EXPECT_EQ(device->counters().submissions, 1U);
  EXPECT_EQ(device->counters().dispatches, 2U);
  EXPECT_EQ(device->counters().barriers, 1U);
}

// Several buffers' worth, and a part of one.
TEST_F(CudaDevice, TransfersAside) {
  const auto device = open();
  EXPECT_TRUE(device->info().transfers_aside);
  constexpr std::size_t kNumbers = 1'000'000;
  constexpr std::uint64_t kBytes = kNumbers * sizeof(std::uint32_t);
  const std::uint32_t buffer = device->allocate(3 * kBytes, "numbers");
  const View first = {buffer, 0, kBytes}, second = {buffer, kBytes, kBytes};
  std::vector<std::uint32_t> numbers(kNumbers), read(kNumbers);
  for (std::uint32_t i = 0; i < kNumbers; ++i) numbers[i] = i * 2654435761U;
  device->write_aside(first, std::as_bytes(std::span(numbers)));
  record_.calls.clear();
  device->copy(first, second);
  EXPECT_THAT(record_.calls, ElementsAre("MemcpyDtoDAsync", "EventRecord"));
  record_.calls.clear();
  device->read_aside(second, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(record_.calls.front(), "StreamWaitEvent") << "for the copy";
  EXPECT_EQ(read, numbers);
  EXPECT_EQ(std::ranges::count(record_.calls, "MemHostAlloc"), 0) << "they were there";
  const std::string too_long = error_of([&] {
    device->read_aside({buffer, 3 * kBytes - 4, 8},
                       std::as_writable_bytes(std::span(read).first(2)));
  });
  EXPECT_THAT(too_long, HasSubstr("8 bytes at 11999996 of a buffer of 12000000"));
  record_.failures["MemcpyDtoHAsync"] = kIllegalAddress;
  EXPECT_THAT(
      error_of([&] { device->read_aside(second, std::as_writable_bytes(std::span(read))); }),
      HasSubstr("cuMemcpyDtoHAsync: CUDA_ERROR_X"));
}

TEST_F(CudaDevice, ClearsWithoutCopying) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(16, "numbers");
  const std::array<std::uint32_t, 4> numbers = {1, 2, 3, 4};
  device->write({buffer, 0, 16}, std::as_bytes(std::span(numbers)));
  record_.calls.clear();
  device->clear({buffer, 4, 8});
  EXPECT_EQ(std::ranges::count(record_.calls, "MemcpyHtoDAsync"), 0);
  std::array<std::uint32_t, 4> read = {};
  device->read({buffer, 0, 16}, std::as_writable_bytes(std::span(read)));
  EXPECT_THAT(read, ElementsAre(1, 0, 0, 4));
}

TEST_F(CudaDevice, GroupsThatWaitForEachOtherAreLaunchedTogether) {
  record_.cooperates = 1;
  const auto device = open();
  EXPECT_EQ(device->info().resident_groups, 132U);
  const std::uint32_t buffer = device->allocate(128, "numbers");
  Dispatch dispatch = add(*device, {buffer, 0, 128}, 1);
  dispatch.resident = true;
  dispatch.group_memory = 100 << 10;
  device->submit({&dispatch, 1});
  device->submit({&dispatch, 1});
  EXPECT_EQ(std::ranges::count(record_.calls, "LaunchKernelEx together"), 2);
  EXPECT_EQ(std::ranges::count(record_.calls, "FuncSetAttribute 102400"), 1);

  record_.failures["FuncSetAttribute 204800"] = 1;
  dispatch.group_memory = 200 << 10;
  EXPECT_THAT(error_of([&] { device->submit({&dispatch, 1}); }), HasSubstr("cuFuncSetAttribute"));
  record_.failures["LaunchKernelEx together"] = 1;
  dispatch.group_memory = 0;
  EXPECT_THAT(error_of([&] {
                device->submit({&dispatch, 1});
              }),
              HasSubstr("cuLaunchKernelEx of add (1 × 1 groups of 32 threads, all at once"));
}

TEST_F(CudaDevice, KernelsThatWaitThemselvesAreStartedEarly) {
  const auto launches = [&](std::string_view module) {
    record_.calls.clear();
    const auto device = open_cuda_device({0, &driver_, std::span(&module, 1)});
    const Dispatch dispatch = add(*device, {device->allocate(128, "numbers"), 0, 128}, 1);
    device->submit({&dispatch, 1});
    return std::ranges::count(record_.calls, "LaunchKernelEx early");
  };
  const std::string waiting =
      std::string(kModule).insert(kModule.find("  mov"), "  gander_begin\n");
  record_.capability = 9;
  EXPECT_EQ(launches(kModule), 0);
  EXPECT_EQ(launches(waiting), 1);
  record_.capability = 8;
  EXPECT_EQ(launches(waiting), 0) << "Ampere has no such instruction";
}

TEST_F(CudaDevice, WaitsOnlyForWhatMayStillRun) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(128, "numbers");
  const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
  for (int i = 0; i < 3; ++i) device->submit(dispatches);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventSynchronize"), 0);
  device->wait(2);
  device->wait(2);
  device->wait(1);
  device->wait(0);
  EXPECT_EQ(device->counters().waits, 1U);
  device->wait(3);
  EXPECT_EQ(device->counters().waits, 2U);
  device->submit(dispatches);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventCreate"), 3) << "events are used again";
}

TEST_F(CudaDevice, EqualPipelinesAreCompiledOnce) {
  const auto device = open();
  const PipelineInfo first = device->pipeline("add", kConstants);
  EXPECT_EQ(device->pipeline("add", kConstants).id, first.id);
  EXPECT_EQ(first.max_threads, 256U);
  EXPECT_THAT(record_.module, HasSubstr("mov.b32 %r1, 64;"));
  const std::array other = {FunctionConstant{0, false, 65}};
  EXPECT_NE(device->pipeline("add", other).id, first.id);
  EXPECT_EQ(std::ranges::count(record_.calls, "ModuleLoadDataEx"), 2);
}

TEST_F(CudaDevice, GivesEverythingBack) {
  {
    const auto device = open();
    const std::uint32_t buffer = device->allocate(128, "numbers");
    const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
    device->submit(dispatches);
  }
  EXPECT_TRUE(record_.memory.empty());
  for (const auto* call :
       {"ModuleUnload", "EventDestroy", "StreamDestroy", "DevicePrimaryCtxRelease"}) {
    EXPECT_EQ(std::ranges::count(record_.calls, call), 1) << call;
  }
}

TEST_F(CudaDevice, RefusesGpusItCannotUse) {
  EXPECT_THAT(error_of([&] { open(2); }), HasSubstr("no GPU 2: the driver shows 2"));
  record_.capability = 7;
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("NVIDIA of the test has capability 7.0"));
  record_.capability = 8;
  record_.failures["Init"] = 100;
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("cuInit: CUDA_ERROR_X (what happened)"));
}

TEST_F(CudaDevice, ErrorsSayWhatAndWhere) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(2048, "numbers");
  Dispatch dispatch = add(*device, {buffer, 0, 128}, 1);

  record_.failures["MemAlloc"] = cuda::kOutOfMemory;
  EXPECT_THAT(error_of([&] { device->allocate(9U << 20, "the head"); }),
              HasSubstr("no memory for the head: 9 MB wanted, 3 of 80 MB free"));

  record_.failures["ModuleLoadDataEx"] = 218;
  EXPECT_THAT(error_of([&] {
                device->pipeline("add", std::array{FunctionConstant{0, false, 1}});
              }),
              HasSubstr("kernel add: CUDA_ERROR_X (what happened): line 7: no such instruction"));

  record_.failures["LaunchKernelEx"] = 1;
  EXPECT_THAT(error_of([&] {
                device->submit({&dispatch, 1});
              }),
              HasSubstr("cuLaunchKernelEx of add (1 × 1 groups of 32 threads"));
  record_.failures.clear();

  dispatch.threads = 288;
  EXPECT_THAT(error_of([&] { device->submit({&dispatch, 1}); }), HasSubstr("not 288 and 20"));
  dispatch.threads = 32;
  dispatch.parameters.resize(5);
  EXPECT_THAT(error_of([&] { device->submit({&dispatch, 1}); }), HasSubstr("not 32 and 21"));
}

TEST_F(CudaDevice, FillsThroughLockedMemoryInTurn) {
  constexpr std::uint64_t kPiece = std::uint64_t{20} << 20;  // two do not fit in a buffer
  constexpr std::uint64_t kPieces = 5;
  const auto device = open();
  const std::uint32_t buffer = device->allocate(kPieces * kPiece, "weights");
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    const View view = {buffer, i * kPiece, kPiece};
    device->fill({&view, 1}, [&](std::span<std::byte> out) {
      ASSERT_EQ(out.size(), kPiece);
      std::memset(out.data(), static_cast<int>(i + 1), out.size());
    });
  }
  EXPECT_EQ(std::ranges::count(record_.calls, "MemHostAlloc"), 2);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventSynchronize"), 3) << "for the third piece on";
  EXPECT_EQ(std::ranges::count(record_.calls, "StreamSynchronize"), 0);
  EXPECT_FALSE(record_.queued.empty()) << "the last is still being copied";
  device->finish_fills();
  EXPECT_EQ(std::ranges::count(record_.calls, "MemFreeHost"), 2);
  std::vector<std::byte> read(kPieces * kPiece);
  device->read({buffer, 0, read.size()}, read);
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    const std::span piece = std::span(read).subspan(i * kPiece, kPiece);
    EXPECT_EQ(piece.front(), static_cast<std::byte>(i + 1));
    EXPECT_EQ(std::memcmp(piece.data(), piece.data() + 1, piece.size() - 1), 0) << "all alike";
  }
}

TEST_F(CudaDevice, SmallPiecesShareLockedMemory) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(4000, "vectors");
  for (std::uint32_t i = 0; i < 500; ++i) {
    // Two places, as the parts of a transposed matrix have.
    const std::array views = {View{buffer, 8 * i + 4, 4}, View{buffer, 8 * i, 4}};
    device->fill(views, [&](std::span<std::byte> out) {
      const std::array<std::uint32_t, 2> numbers = {2 * i + 1, 2 * i};
      ASSERT_EQ(out.size(), sizeof numbers);
      std::memcpy(out.data(), numbers.data(), sizeof numbers);
    });
  }
  EXPECT_EQ(std::ranges::count(record_.calls, "EventSynchronize"), 0);
  device->finish_fills();
  std::vector<std::uint32_t> read(1000);
  device->read({buffer, 0, 4000}, std::as_writable_bytes(std::span(read)));
  for (std::uint32_t i = 0; i < read.size(); ++i) ASSERT_EQ(read[i], i);
  const View large = {buffer, 0, Device::kFillBytes + 1};
  EXPECT_THAT(error_of([&] {
                device->fill({&large, 1}, [](std::span<std::byte>) {});
              }),
              HasSubstr("take smaller pieces"));
}

TEST_F(CudaDevice, FillsWithoutLockedMemoryToo) {
  record_.failures["MemHostAlloc"] = cuda::kOutOfMemory;
  const auto device = open();
  const std::uint32_t buffer = device->allocate(8, "vectors");
  const std::array views = {View{buffer, 4, 4}, View{buffer, 0, 4}};
  device->fill(views, [](std::span<std::byte> out) { std::memcpy(out.data(), "abcdefgh", 8); });
  device->finish_fills();
  std::array<char, 8> read{};
  device->read({buffer, 0, 8}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(std::string_view(read.data(), 8), "efghabcd");
}

TEST_F(CudaDevice, GivesLockedMemoryBackWhenLoadingIsGivenUp) {
  {
    const auto device = open();
    const std::uint32_t buffer = device->allocate(8, "vectors");
    const View view = {buffer, 0, 8};
    device->fill({&view, 1}, [](std::span<std::byte>) {});
    EXPECT_EQ(record_.locked.size(), 2U);
  }
  EXPECT_TRUE(record_.locked.empty());
}

// A token is written while others run.
TEST_F(CudaDevice, SmallWritesWaitForNothing) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(128, "numbers");
  const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
  device->submit(dispatches);
  record_.calls.clear();
  const std::uint32_t token = 7;
  device->write({buffer, 0, sizeof token}, std::as_bytes(std::span(&token, 1)));
  EXPECT_THAT(record_.calls, ElementsAre("MemcpyHtoDAsync"));
}

TEST_F(CudaDevice, EveryErrorNamesItsCall) {
  const auto use = [&] {
    const auto device = open();
    const std::uint32_t buffer = device->allocate(128, "numbers");
    const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
    const std::uint32_t number = 7;
    const View view = {buffer, 0, sizeof number};
    device->write(view, std::as_bytes(std::span(&number, 1)));
    device->wait(device->submit(dispatches));
    device->submit(dispatches);
    std::uint32_t read = 0;
    device->read(view, std::as_writable_bytes(std::span(&read, 1)));
  };
  EXPECT_EQ(error_of(use), "no error");
  for (const std::string call :
       {"Init", "DeviceGetCount", "DeviceGet", "DevicePrimaryCtxRetain", "StreamCreate", "MemAlloc",
        "MemsetD8Async", "MemcpyHtoDAsync", "MemcpyDtoHAsync", "StreamSynchronize", "EventCreate",
        "EventRecord", "LaunchKernelEx"}) {
    record_.failures = {{call, 1}};
    const std::string error = error_of(use);
    EXPECT_THAT(error, HasSubstr("CUDA: cu" + call)) << error;
    EXPECT_THAT(error, HasSubstr("CUDA_ERROR_X (what happened): ")) << "and what to do: " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
  }
  record_.failures = {{"ModuleGetFunction add", 1}};
  EXPECT_THAT(error_of(use), HasSubstr("cuModuleGetFunction of add: CUDA_ERROR_X"));
  // What reports the failure of a kernel is often a later call.
  record_.failures = {{"MemcpyDtoHAsync", kIllegalAddress}};
  EXPECT_THAT(error_of(use), HasSubstr("a kernel before it may have failed, from add on"));
}

TEST_F(CudaDevice, FailuresOfKernelsNameThem) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(128, "numbers");
  const std::vector dispatches(3, add(*device, {buffer, 0, 128}, 1));
  record_.failures["EventSynchronize"] = kIllegalAddress;
  const auto one = device->submit(std::span(dispatches).first(1));
  EXPECT_THAT(error_of([&] { device->wait(one); }), HasSubstr("kernel add failed: CUDA_ERROR_X"));
  const auto more = device->submit(dispatches);
  EXPECT_THAT(error_of([&] { device->wait(more); }), HasSubstr("submit one at a time"));
}

}  // namespace
}  // namespace gander::gpu
