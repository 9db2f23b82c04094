#include "backend/gpu/emulated/emulated_device.h"
#include "backend/gpu/emulated/sanitizers.h"
#include "base/error.h"
#include "tests/support/kernel_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gander::gpu {
namespace {

using uint = std::uint32_t;
#include "tests/msl/machine.h"

using testing::HasSubstr;

// What the emulated GPU says about a call; nothing when it does not object.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class MslDevice : public testing::Test {
 protected:
  // A right dispatch of test_write: 32 floats, and room for as many in group memory.
  Dispatch dispatch() {
    Dispatch result;
    result.kernel = "test_write";
    result.pipeline = device_->pipeline("test_write", {}).id;
    result.bindings = {{{buffer_, 0, 128}, 0, 128}};
    result.parameters.resize(sizeof(TestParameters));
    result.group_memory = 128;
    return result;
  }
  std::string error_of_submitting(const Dispatch& dispatch) {
    return error_of([&] { device_->submit(std::span(&dispatch, 1)); });
  }

  std::unique_ptr<Device> device_ = open_emulated_device();
  std::uint32_t buffer_ = device_->allocate(256, "numbers");
};

TEST_F(MslDevice, BuffersBeginAsZerosAndKeepWhatIsWritten) {
  std::vector<std::byte> bytes(256, std::byte{1});
  device_->read({buffer_, 0, 256}, bytes);
  EXPECT_EQ(bytes, std::vector<std::byte>(256));
  device_->write({buffer_, 8, 4}, std::vector<std::byte>(4, std::byte{7}));
  device_->read({buffer_, 0, 256}, bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_EQ(bytes[i], i >= 8 && i < 12 ? std::byte{7} : std::byte{0});
  }
  EXPECT_EQ(device_->allocated_bytes(), 256U);
}

TEST_F(MslDevice, WrappedMemoryIsSharedAndReadOnly) {
  std::vector<std::byte> memory(64, std::byte{3});
  const std::uint32_t wrapped = device_->wrap(memory, "weights");
  memory[1] = std::byte{9};
  std::vector<std::byte> bytes(2);
  device_->read({wrapped, 0, 2}, bytes);
  EXPECT_EQ(bytes, (std::vector{std::byte{3}, std::byte{9}}));
  EXPECT_EQ(device_->allocated_bytes(), 256U + 64U);
  EXPECT_THAT(error_of([&] { device_->write({wrapped, 0, 2}, bytes); }), HasSubstr("read-only"));
  Dispatch writes = dispatch();
  writes.bindings[0].view = {wrapped, 0, 64};
  EXPECT_THAT(error_of_submitting(writes), HasSubstr("writes buffer 0, 'weights', which is read"));
}

TEST_F(MslDevice, ViewsStayWithinTheirBuffers) {
  std::vector<std::byte> bytes(16);
  EXPECT_THAT(error_of([&] {
                device_->read({buffer_, 250, 16}, bytes);
              }),
              HasSubstr("bytes 250 to 266 of buffer 'numbers', which has 256"));
  EXPECT_THAT(error_of([&] { device_->read({77, 0, 16}, bytes); }), HasSubstr("no buffer 77"));
  EXPECT_THAT(error_of([&] {
                device_->write({buffer_, 0, 8}, bytes);
              }),
              HasSubstr("16 bytes for a view of 8"));
  EXPECT_THAT(error_of([&] { device_->allocate(0, "nothing"); }), HasSubstr("'nothing'"));
}

TEST_F(MslDevice, PipelinesNeedTheirKernelAndItsConstants) {
  EXPECT_THAT(error_of([&] { device_->pipeline("no_such", {}); }),
              HasSubstr("no kernel 'no_such'"));
  const FunctionConstant scale = {GANDER_TEST_SCALE, false, 2};
  const FunctionConstant bias = {GANDER_TEST_BIAS, true, 0};
  EXPECT_EQ(error_of([&] { device_->pipeline("test_group_sum", std::vector{scale}); }),
            "kernel test_group_sum: function constant 1 has no value");
  const std::uint32_t both = device_->pipeline("test_group_sum", std::vector{scale, bias}).id;
  EXPECT_EQ(device_->pipeline("test_group_sum", std::vector{scale, bias}).id, both);
  const FunctionConstant other = {GANDER_TEST_SCALE, false, 3};
  EXPECT_NE(device_->pipeline("test_group_sum", std::vector{other, bias}).id, both);
}

TEST_F(MslDevice, DispatchesAreCheckedAsMetalDoes) {
  EXPECT_EQ(error_of_submitting(dispatch()), "");
  Dispatch wrong = dispatch();
  wrong.parameters.clear();
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("1 buffers bound, it has 2"));
  wrong = dispatch();
  wrong.bindings.push_back(wrong.bindings[0]);
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("3 buffers bound, it has 2"));
  wrong = dispatch();
  wrong.kernel = "test_barrier";
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("with the pipeline of test_write"));
  wrong = dispatch();
  wrong.threads = 48;
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("48 threads in a group"));
  wrong = dispatch();
  wrong.threads = 1056;
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("1056 threads in a group"));
  wrong = dispatch();
  wrong.group_memory = 120;
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("120 bytes of group memory"));
  wrong = dispatch();
  wrong.group_memory = (32 << 10) + 16;
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("32784 bytes of group memory"));
  wrong = dispatch();
  wrong.parameters.resize(sizeof(TestParameters) - 4);
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("16 bytes at buffer 1, an element has 20"));
  wrong = dispatch();
  wrong.bindings[0].view.size = 3;
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("3 bytes at buffer 0, an element has 4"));
  wrong = dispatch();
  wrong.parameters.resize(4097);
  EXPECT_THAT(error_of_submitting(wrong), HasSubstr("4097 bytes of parameters"));
}

TEST_F(MslDevice, AccountsOfWritesFitTheKernel) {
  Dispatch sums;
  sums.kernel = "test_group_sum";
  sums.pipeline =
      device_
          ->pipeline("test_group_sum",
                     std::vector<FunctionConstant>{{GANDER_TEST_SCALE}, {GANDER_TEST_BIAS}})
          .id;
  sums.bindings = {{{buffer_, 0, 128}, 128, 0}, {{buffer_, 128, 4}, 0, 4}};
  sums.parameters.resize(sizeof(TestParameters));
  sums.group_memory = 16;
  EXPECT_EQ(error_of_submitting(sums), "");
  sums.bindings[0].writes = 128;
  EXPECT_EQ(error_of_submitting(sums),
            "kernel test_group_sum: 128 bytes written are accounted for buffer 0, which is const");
}

// Three dispatches write their number to the same place; the last one's stays.
float last_writer(Order order, bool barriers) {
  const auto device = open_emulated_device(order);
  const std::uint32_t buffer = device->allocate(4, "number");
  std::vector<Dispatch> dispatches(3);
  for (uint i = 0; i < dispatches.size(); ++i) {
    dispatches[i].kernel = "test_number";
    dispatches[i].pipeline = device->pipeline("test_number", {}).id;
    dispatches[i].bindings = {{{buffer, 0, 4}, 0, 4}};
    TestParameters parameters = {};
    parameters.per_group = i + 1;
    const auto bytes = std::as_bytes(std::span(&parameters, 1));
    dispatches[i].parameters.assign(bytes.begin(), bytes.end());
    dispatches[i].barrier = barriers || i == 0;
  }
  device->wait(device->submit(dispatches));
  EXPECT_EQ(device->counters().dispatches, 3U);
  EXPECT_EQ(device->counters().submissions, 1U);
  EXPECT_EQ(device->counters().waits, 1U);
  float number = 0;
  device->read({buffer, 0, 4}, std::as_writable_bytes(std::span(&number, 1)));
  return number;
}

TEST(MslDeviceOrder, OnlyBarriersKeepDispatchesInTheirPlaces) {
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    EXPECT_EQ(last_writer(order, true), 3.0F);
  }
  EXPECT_EQ(last_writer(Order::Forward, false), 3.0F);
  EXPECT_EQ(last_writer(Order::Reverse, false), 1.0F);
}

TEST(MslDeviceOrder, EveryOrderVisitsEverythingOnce) {
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    for (const std::uint32_t count : {1U, 2U, 31U, 32U, 1000U, 7919U, 15838U}) {
      for (const std::uint32_t seed : {0U, 5U}) {
        std::vector<bool> seen(count);
        for (std::uint32_t i = 0; i < count; ++i) {
          const std::uint32_t place = msl::place_in_order(order, i, count, seed);
          ASSERT_LT(place, count);
          EXPECT_FALSE(seen[place]);
          seen[place] = true;
        }
      }
    }
  }
}

#if GANDER_ADDRESS_SANITIZER
TEST_F(MslDevice, TheAddressSanitizerSeesTheEndsOfViews) {
  Dispatch past = dispatch();
  past.bindings[0].view = {buffer_, 64, 120};
  EXPECT_DEATH(device_->submit(std::span(&past, 1)), "use-after-poison(.|\\n)*machine.metal:89");
}
#endif

}  // namespace
}  // namespace gander::gpu
