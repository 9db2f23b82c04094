#include <gmock/gmock.h>

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "tests/support/fake_cuda_driver.h"

namespace gander::gpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CudaDevice : public CudaDeviceTest {};

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
      std::string(kAddModule).insert(kAddModule.find("  mov"), "  gander_begin\n");
  record_.major_capability = 9;
  EXPECT_EQ(launches(kAddModule), 0);
  EXPECT_EQ(launches(waiting), 1);
  record_.major_capability = 8;
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

// An event between kernels keeps them from being started early.
TEST_F(CudaDevice, WhatIsQueuedBelongsToTheNextSubmission) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(128, "numbers");
  const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
  device->queue(dispatches);
  device->queue(dispatches);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventRecord"), 0);
  EXPECT_EQ(device->counters().submissions, 0U);
  EXPECT_EQ(device->submit(dispatches), 1U);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventRecord"), 1);
  EXPECT_EQ(device->counters().dispatches, 3U);
  std::array<float, 1> read{};
  device->wait(1);
  device->read({buffer, 0, sizeof read}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read[0], 3.0F);

  device->queue(dispatches);
  device->submit(dispatches);
  record_.failures["EventSynchronize"] = kIllegalAddress;
  EXPECT_THAT(error_of([&] { device->wait(2); }), HasSubstr("one of 2 dispatches from add on"));
}

TEST_F(CudaDevice, EqualPipelinesAreCompiledOnce) {
  const auto device = open();
  const PipelineInfo first = device->pipeline("add", kAddConstants);
  EXPECT_EQ(device->pipeline("add", kAddConstants).id, first.id);
  EXPECT_EQ(first.max_threads, 256U);
  EXPECT_THAT(record_.modules.back(), HasSubstr("mov.b32 %r1, 64;"));
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
  record_.major_capability = 7;
  EXPECT_THAT(error_of([&] { open(); }), HasSubstr("NVIDIA of the test has capability 7.0"));
  record_.major_capability = 8;
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
