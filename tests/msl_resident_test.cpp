#include <gmock/gmock.h>

#include <array>
#include <cmath>
#include <cstring>
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

TEST(MslResident, BlocksSeeWhatOthersStore) {
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    EXPECT_THAT(run_blocks("test_handing_over", true, order), ElementsAre(4, 5, 6, 3));
  }
}

TEST(MslResident, WaitingForWhatNeverComesIsAnError) {
  const std::string error = error_of("test_nothing_comes", true);
  EXPECT_THAT(error, HasSubstr("group 3: thread 0 waits at"));
  EXPECT_THAT(error, HasSubstr("for what no other group brings"));
}

TEST(MslResident, OnlyBlocksThatRunAtOnceMayWaitForEachOther) {
  EXPECT_THAT(error_of("test_handing_over", false), HasSubstr("need not run at the same time"));
}

TEST(MslResident, APieceThatNobodyWaitedForIsNotThere) {
  for (const std::uint32_t waits : {1U, 2U}) {
    const auto device = open_emulated_device();
    std::vector<float> in(256);
    std::iota(in.begin(), in.end(), 1.0F);
    std::vector<float> out(256);
    KernelRun run(*device, "test_pieces");
    run.constant(GANDER_TEST_SCALE, waits);
    run.in(in);
    run.out(out);
    run.launch({1, 1}, 32);
    EXPECT_EQ(out[127], 128.0F);
    EXPECT_EQ(std::isnan(out[128]), waits == 1);
  }
}

TEST(MslResident, ProductsOfMatricesOfBytes) {
  const auto device = open_emulated_device();
  // a is [16][32], b [8][32] by columns; lane 4 g + t has words t and t + 4 of rows g and g + 8.
  std::vector<std::uint8_t> a(16 * 32), b(8 * 32);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<std::uint8_t>(i * i * 7 + i);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::uint8_t>(i * i * 5 + 3 * i);
  std::vector<std::uint32_t> a_words(128), b_words(64);
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const std::size_t row = lane / 4, byte = lane % 4 * 4;
    const std::array<std::size_t, 4> at = {row * 32 + byte, (row + 8) * 32 + byte,
                                           row * 32 + byte + 16, (row + 8) * 32 + byte + 16};
    for (std::size_t i = 0; i < 4; ++i) std::memcpy(&a_words[4 * lane + i], &a[at[i]], 4);
    std::memcpy(&b_words[2 * lane], &b[row * 32 + byte], 4);
    std::memcpy(&b_words[2 * lane + 1], &b[row * 32 + byte + 16], 4);
  }
  std::vector<std::int32_t> out(256);
  KernelRun run(*device, "test_byte_products");
  run.in(a_words);
  run.in(b_words);
  run.out(out);
  run.launch({1, 1}, 32);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      int with_unsigned = 5, with_signed = 5;
      for (std::size_t k = 0; k < 32; ++k) {
        const auto factor = static_cast<std::int8_t>(b[column * 32 + k]);
        with_unsigned += a[row * 32 + k] * factor;
        with_signed += static_cast<std::int8_t>(a[row * 32 + k]) * factor;
      }
      const std::size_t place = 4 * (row % 8 * 4 + column / 2) + row / 8 * 2 + column % 2;
      EXPECT_EQ(out[place], with_unsigned) << row << " " << column;
      EXPECT_EQ(out[128 + place], with_signed) << row << " " << column;
    }
  }
}

}  // namespace
}  // namespace gander::gpu
