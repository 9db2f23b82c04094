#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "backend/gpu/emulated/emulated_device.h"
#include "base/error.h"
#include "tests/support/kernel_run.h"

// What the emulation does beyond Metal: blocks that meet, and copies that run on.
namespace gander::gpu {
namespace {

#include "tests/msl/machine.h"

using testing::ElementsAre;
using testing::HasSubstr;

/// A dispatch of a kernel of three buffers of four floats, and what it leaves in the first.
std::vector<float> run_blocks(std::string_view kernel, bool resident, Order order) {
  const auto device = open_emulated_device(EmulatedOptions{.order = order, .resident_groups = 4});
  const std::uint32_t buffer = device->allocate(48, "buffers");
  Dispatch dispatch;
  dispatch.kernel = kernel;
  dispatch.pipeline = device->pipeline(kernel, {}).id;
  dispatch.bindings = {{{buffer, 0, 16}}, {{buffer, 16, 16}}, {{buffer, 32, 16}}};
  dispatch.groups = {4, 1};
  dispatch.threads = 64;
  dispatch.resident = resident;
  device->wait(device->submit({&dispatch, 1}));
  std::vector<float> out(4);
  device->read({buffer, 0, 16}, std::as_writable_bytes(std::span(out)));
  return out;
}

std::string error_of(std::string_view kernel, bool resident) {
  try {
    run_blocks(kernel, resident, Order::Forward);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(MslResident, BlocksSeeWhatOthersWroteBeforeTheyMet) {
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    EXPECT_THAT(run_blocks("test_meeting", true, order), ElementsAre(2, 3, 4, 1));
  }
}

TEST(MslResident, ABlockThatDoesNotComeIsAnError) {
  EXPECT_THAT(error_of("test_missed_meeting", true), HasSubstr("3 groups wait for 1 others"));
}

TEST(MslResident, OnlyBlocksThatRunAtOnceMayMeet) {
  EXPECT_THAT(error_of("test_meeting", false), HasSubstr("need not run at the same time"));
}

TEST(MslResident, APieceThatNobodyWaitedForIsNotThere) {
  for (const std::uint32_t ahead : {1U, 0U}) {
    const auto device = open_emulated_device();
    std::vector<float> in(256);
    std::iota(in.begin(), in.end(), 1.0F);
    std::vector<float> out(256);
    KernelRun run(*device, "test_pieces");
    run.constant(GANDER_TEST_SCALE, ahead);
    run.in(in);
    run.out(out);
    run.launch({1, 1}, 32);
    EXPECT_EQ(out[127], 128.0F);
    EXPECT_EQ(std::isnan(out[128]), ahead == 1);
  }
}

TEST(MslResident, ProductsOfBytes) {
  const auto device = open_emulated_device();
  const std::vector<std::int32_t> in = {static_cast<std::int32_t>(0xf0027f80U), 0x03fe01ff};
  std::vector<std::int32_t> out(2);
  KernelRun run(*device, "test_byte_products");
  run.in(in);
  run.out(out);
  run.launch({1, 1}, 32);
  // Bytes 80 7f 02 f0 times -1, 1, -2, 3.
  EXPECT_EQ(out[0], 5 + 128 + 127 - 4 - 48);
  EXPECT_EQ(out[1], 5 - 128 + 127 - 4 + 720);
}

}  // namespace
}  // namespace gander::gpu
