#include <gmock/gmock.h>

#include <algorithm>
#include <string>

#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/gpu_generator.h"
#include "backend/gpu/prediction.h"
#include "backend/gpu/recording_device.h"
#include "base/error.h"
#include "tests/support/sparse_model.h"
#include "tests/support/temporary_folder.h"

// What is recorded for a token and planned for a model, counted without running anything.
namespace gander::gpu {
namespace {

struct Recorded {
  Weights weights;
  MemoryPlan plan;
  Program program;
  std::uint64_t wrapped = 0, allocated = 0;
};

Recorded record(const TemporaryFolder& folder, std::string_view size, DataType large,
                DeviceInfo info = apple_gpu(), DataType low_rank = DataType::F16) {
  Recorded recorded;
  recorded.weights =
      make_sparse_weights(released_config(size), large, low_rank, folder.path(std::string(size)));
  RecordingDevice device(info);
  const LaunchShapes shapes = default_shapes(recorded.weights.config, info);
  recorded.plan = plan_memory(recorded.weights, shapes, info);
  const ModelMemory memory = place_model(recorded.weights, recorded.plan.weights, shapes, device);
  recorded.program =
      record_token(recorded.weights.config, memory, shapes, device, memory.buffers.token);
  recorded.wrapped = device.wrapped_bytes();
  recorded.allocated = device.allocated_bytes() - device.wrapped_bytes();
  return recorded;
}

TEST(GpuProgram, FiveDispatchesALayer) {
  const TemporaryFolder folder;
  const Recorded recorded = record(folder, "2.9b", DataType::Q4_K);
  // embed and head besides; sampling on the device adds one.
  EXPECT_EQ(recorded.program.dispatches.size(), 5U * 32 + 2);
  RecordingDevice device(apple_gpu());
  const LaunchShapes shapes = default_shapes(recorded.weights.config, device.info());
  const ModelMemory memory = place_model(recorded.weights, recorded.plan.weights, shapes, device);
  const Config& config = recorded.weights.config;
  const GpuGenerator generator(device, config, memory, [&](const View& token, bool) {
    return record_token(config, memory, shapes, device, token);
  });
  EXPECT_EQ(generator.token_program().dispatches.size(), 163U);
  for (std::uint32_t layer = 0; layer < 32; ++layer) {
    EXPECT_EQ(std::ranges::count_if(recorded.program.dispatches,
                                    [&](const Dispatch& d) { return d.layer == layer; }),
              5);
  }
}

TEST(GpuProgram, WithoutFencesSlicesAreAddedInADispatchOfTheirOwn) {
  const TemporaryFolder folder;
  DeviceInfo info = apple_gpu();
  info.device_fences = false;
  EXPECT_EQ(record(folder, "2.9b", DataType::Q4_K, info).program.dispatches.size(), 6U * 32 + 2);
}

TEST(GpuProgram, ReadsWeightsAndStateOnce) {
  const TemporaryFolder folder;
  for (const DataType type : {DataType::Q4_K, DataType::Q8_0, DataType::F16}) {
    const Recorded recorded = record(folder, "2.9b", type);
    const auto least = static_cast<double>(least_bytes_read(recorded.weights));
    const auto read = static_cast<double>(recorded.program.bytes_read());
    RecordProperty(std::string(name(type)), std::to_string(read / least));
    EXPECT_GT(read, least) << name(type);
    EXPECT_LT(read, 1.05 * least) << name(type);
  }
}

TEST(GpuProgram, EveryBindingLiesInItsView) {
  const TemporaryFolder folder;
  const Recorded recorded = record(folder, "0.1b", DataType::Q5_K);
  for (const Dispatch& dispatch : recorded.program.dispatches) {
    for (const Binding& binding : dispatch.bindings) {
      EXPECT_LE(binding.reads, binding.view.size) << dispatch.kernel;
      EXPECT_LE(binding.writes, binding.view.size) << dispatch.kernel;
      EXPECT_EQ(binding.view.offset % 2, 0U) << dispatch.kernel;
    }
  }
}

// Of Apple7 and later: Metal Feature Set Tables, "Implementation limits by GPU family".
TEST(GpuProgram, KeepsApplesLimits) {
  const TemporaryFolder folder;
  for (const char* size : {"0.1b", "0.4b", "1.5b", "2.9b", "7.2b", "13.3b"}) {
    for (const DataTypeInfo& type : all_data_types()) {
      const Recorded recorded = record(folder, size, type.type);
      for (const Dispatch& dispatch : recorded.program.dispatches) {
        EXPECT_LE(dispatch.threads, 1024U);
        EXPECT_EQ(dispatch.threads % 32, 0U);
        EXPECT_LE(dispatch.group_memory, 32U << 10) << dispatch.kernel << " " << size;
        EXPECT_EQ(dispatch.group_memory % 16, 0U);
        EXPECT_LE(dispatch.bindings.size() + 1, 31U);
        EXPECT_LE(dispatch.parameters.size(), 4096U);
      }
    }
  }
}

TEST(GpuMemory, TheLargestSizeIsUsedWhereItIsMapped) {
  const TemporaryFolder folder;
  const Recorded recorded = record(folder, "2.9b", DataType::Q4_K);
  const WeightPlan& plan = recorded.plan.weights;
  RecordProperty("bytes", std::to_string(recorded.plan.total()));
  EXPECT_LT(recorded.plan.total(), 2'000'000'000U);
  // Only vectors are copied, and only ffn.value is repacked.
  EXPECT_LT(plan.copied_bytes, 8U << 20);
  EXPECT_GT(plan.wrapped_bytes, plan.total() * 7 / 10);
  // What is planned is what is allocated.
  EXPECT_EQ(recorded.wrapped, plan.wrapped_bytes);
  EXPECT_NEAR(static_cast<double>(recorded.wrapped + recorded.allocated),
              static_cast<double>(recorded.plan.total()), 1 << 20);
}

TEST(GpuMemory, BuffersStayBelowTheDevicesLimit) {
  const TemporaryFolder folder;
  DeviceInfo info = apple_gpu();
  info.max_buffer_bytes = std::uint64_t{256} << 20;
  const Recorded recorded = record(folder, "1.5b", DataType::F16, info);
  for (const auto pages : recorded.plan.weights.pages) {
    EXPECT_LE(pages.size(), info.max_buffer_bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pages.data()) % info.page_bytes, 0U);
    EXPECT_EQ(pages.size() % info.page_bytes, 0U);
  }
  EXPECT_GT(recorded.plan.weights.pages.size(), 5U);
  info.max_buffer_bytes = std::uint64_t{16} << 20;
  EXPECT_THROW(record(folder, "1.5b", DataType::F16, info), Error);
}

TEST(GpuMemory, AModelThatDoesNotFitIsRefused) {
  const TemporaryFolder folder;
  DeviceInfo info = apple_gpu();
  const Recorded recorded = record(folder, "2.9b", DataType::Q4_K);
  info.working_set_bytes = recorded.plan.total();
  EXPECT_NO_THROW(check_memory(recorded.plan, info));
  info.working_set_bytes -= 1;
  EXPECT_THROW(check_memory(recorded.plan, info), Error);
  // What others leave of it counts too.
  info.working_set_bytes = 2 * recorded.plan.total();
  info.free_bytes = recorded.plan.total();
  EXPECT_NO_THROW(check_memory(recorded.plan, info));
  info.free_bytes -= 1;
  EXPECT_THAT([&] { check_memory(recorded.plan, info); },
              testing::ThrowsMessage<Error>(
                  testing::AllOf(testing::HasSubstr(" free, and this model needs"),
                                 testing::HasSubstr("close other programs"))));
}

TEST(GpuPrediction, FollowsBytesAndDispatches) {
  Program program;
  program.dispatches.resize(100);
  program.dispatches[0].bindings = {{{}, 80'000'000, 0}};
  const AppleChip chip = {"test", 100e9};
  EXPECT_NEAR(predicted_tokens_per_second(program, chip, 1), 1 / (1e-3 + 180e-6), 1);
}

}  // namespace
}  // namespace gander::gpu
