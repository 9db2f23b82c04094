// The stand-in for Metal runs kernels as Metal would, and fails where asked to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "kernels/function_constants.h"
#include "tests/support/standin_gpu.h"
#include "tests/support/temporary_folder.h"

namespace gander::gpu::metal {
namespace {

using testing::HasSubstr;

TEST_F(StandinMetalTest, RunsKernels) {
  const Gpu gpu;
  const auto command_buffer = run(gpu, [&](auto encoder) { encode_add(encoder, gpu); });
  EXPECT_EQ(command_buffer.status(), CommandBufferStatus::Completed);
  EXPECT_FALSE(command_buffer.error());
  EXPECT_GT(command_buffer.gpu_start_time(), 0);
  EXPECT_GE(command_buffer.gpu_end_time(), command_buffer.gpu_start_time());
  for (std::uint32_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(static_cast<float*>(gpu.y->contents())[i], 3);
  }
  EXPECT_EQ(standin::counters().dispatches, 1U);
}

TEST_F(StandinMetalTest, CallsHandlersOnAnotherThreadWhenAllHasRun) {
  const Gpu gpu;
  const auto command_buffer = gpu.command_buffer();
  std::promise<std::thread::id> called;
  float seen = 0;
  const Block handler([&](Object) {
    seen = Gpu::first(gpu.y);
    called.set_value(std::this_thread::get_id());
  });
  const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
  encode_add(encoder, gpu);
  encoder.end_encoding();
  command_buffer.add_completed_handler(handler.get());
  standin::hold_execution(true);
  command_buffer.commit();
  EXPECT_EQ(Gpu::first(gpu.y), 1);
  standin::hold_execution(false);
  EXPECT_NE(called.get_future().get(), std::this_thread::get_id());
  EXPECT_EQ(seen, 3);
}

TEST_F(StandinMetalTest, CountsMemory) {
  const Gpu gpu;
  EXPECT_EQ(gpu.device->current_allocated_size(), 2 * kBytes);
  {
    const auto more = gpu.buffer(0);
    EXPECT_EQ(gpu.device->current_allocated_size(), 3 * kBytes);
  }
  EXPECT_EQ(gpu.device->current_allocated_size(), 2 * kBytes);
  standin::failures().allocation_after = 2 * kBytes;
  EXPECT_FALSE(gpu.device->new_buffer(1, kUntracked));
}

TEST_F(StandinMetalTest, CompilesTheKernelsOnly) {
  const Gpu gpu;
  const auto options = make_object<CompileOptions>();
  std::string text(kernel_source());
  NSError error;
  EXPECT_FALSE(gpu.device->new_library(make_string(text + "\n"), options.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("error: not the text of the kernels"));
  standin::settings().macos_version = 14;
  options->set_language_version(LanguageVersion::Version3_2);
  EXPECT_FALSE(gpu.device->new_library(make_string(text), options.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("language version 3.2"));
  options->set_language_version(LanguageVersion::Version3_1);
  EXPECT_TRUE(gpu.device->new_library(make_string(text), options.get(), error));
  standin::failures().compile = true;
  EXPECT_FALSE(gpu.device->new_library(make_string(text), options.get(), error));
}

TEST_F(StandinMetalTest, KernelsNeedTheirFunctionConstants) {
  const Gpu gpu;
  const auto values = make_object<FunctionConstantValues>();
  NSError error;
  EXPECT_FALSE(gpu.functions->new_function(make_string("bled"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("bled was not found"));
  EXPECT_FALSE(gpu.functions->new_function(make_string("embed"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("needs the function constant kWidth"));
  const std::uint32_t one = 1;
  for (std::uint32_t i = 0; i < GANDER_CONSTANT_COUNT; ++i) values->set(&one, DataType::UInt, i);
  EXPECT_FALSE(gpu.functions->new_function(make_string("embed"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("is of type float, its value of type uint"));
  values->set(&one, DataType::Float, GANDER_NORM_EPSILON);
  EXPECT_TRUE(gpu.functions->new_function(make_string("embed"), values.get(), error));
}

TEST_F(StandinMetalTest, ArchivesKeepPipelines) {
  const TemporaryFolder folder;
  const std::string path = folder.path("pipelines");
  const Gpu gpu;
  NSError error;
  const auto values = make_object<FunctionConstantValues>();
  const auto function = gpu.functions->new_function(make_string("add"), values.get(), error);
  const auto descriptor = make_object<PipelineDescriptor>();
  descriptor->set_compute_function(function.get());
  const auto archive_descriptor = make_object<BinaryArchiveDescriptor>();
  const auto find = [&](const Retained<BinaryArchive>& archive) {
    descriptor->set_binary_archives(make_array(archive.get()));
    return static_cast<bool>(
        gpu.device->new_pipeline(descriptor.get(), PipelineOption::FailOnBinaryArchiveMiss, error));
  };
  {
    const auto archive = gpu.device->new_binary_archive(archive_descriptor.get(), error);
    EXPECT_FALSE(find(archive));
    EXPECT_TRUE(archive->add(descriptor.get(), error));
    EXPECT_TRUE(find(archive));
    EXPECT_TRUE(archive->serialize(make_file_url(path), error));
  }
  archive_descriptor->set_url(make_file_url(path));
  EXPECT_TRUE(find(gpu.device->new_binary_archive(archive_descriptor.get(), error)));
  archive_descriptor->set_url(make_file_url(path + ".missing"));
  EXPECT_FALSE(gpu.device->new_binary_archive(archive_descriptor.get(), error));
}

TEST_F(StandinMetalTest, FailsAsPlanned) {
  const Gpu gpu;
  for (const auto& [failure, code] : {std::pair(standin::CommandFailure::Timeout, 2),
                                      std::pair(standin::CommandFailure::PageFault, 3),
                                      std::pair(standin::CommandFailure::OutOfMemory, 8)}) {
    standin::failures().command = failure;
    standin::failures().command_after = 1;
    const auto good = run(gpu, [&](auto encoder) { encode_add(encoder, gpu); });
    EXPECT_EQ(good.status(), CommandBufferStatus::Completed);
    const auto bad = run(gpu, [&](auto encoder) { encode_add(encoder, gpu); });
    EXPECT_EQ(bad.status(), CommandBufferStatus::Error);
    EXPECT_EQ(bad.error().code(), code);
    const auto infos = bad.error().info<Array>(String{{MTLCommandBufferEncoderInfoErrorKey}});
    ASSERT_EQ(infos.count(), 1U);
    EXPECT_EQ(infos.at<CommandBufferEncoderInfo>(0).error_state(), EncoderState::Faulted);
  }
}

TEST_F(StandinMetalTest, AFailureTakesOthersWithIt) {
  const Gpu gpu;
  standin::failures().command = standin::CommandFailure::Timeout;
  standin::hold_execution(true);
  const auto first = gpu.command_buffer(), second = gpu.command_buffer();
  first.commit();
  second.commit();
  standin::hold_execution(false);
  wait(second);
  EXPECT_EQ(first.status(), CommandBufferStatus::Error);
  EXPECT_EQ(second.status(), CommandBufferStatus::Error);
  EXPECT_THAT(describe(second.error()), HasSubstr("InnocentVictim"));
}

TEST_F(StandinMetalTest, DispatchesWithoutBarrierRunInBothOrders) {
  const Gpu gpu;
  run(gpu, [&](auto encoder) {
    encode_add(encoder, gpu);
    encoder.memory_barrier(BarrierScope::Buffers);
    encode_add(encoder, gpu, true);
  });
  EXPECT_EQ(Gpu::first(gpu.x), 5);
  EXPECT_EQ(standin::counters().reordered_batches, 0U);
  run(
      gpu, [&](auto encoder) { encode_add(encoder, gpu), encode_add(encoder, gpu, true); },
      DispatchType::Serial);
  EXPECT_EQ(Gpu::first(gpu.x), 13);
  EXPECT_EQ(standin::counters().reordered_batches, 0U);
  run(gpu, [&](auto encoder) { encode_add(encoder, gpu), encode_add(encoder, gpu); });
  EXPECT_EQ(Gpu::first(gpu.y), 34);  // the order of the two does not matter
  EXPECT_EQ(standin::counters().reordered_batches, 1U);
}

TEST_F(StandinMetalDeathTest, MissingBarrier) {
  auto use = [] {
    const Gpu gpu;
    run(gpu, [&](auto encoder) { encode_add(encoder, gpu), encode_add(encoder, gpu, true); });
  };
  EXPECT_DEATH(use(), "no barrier between add, add, and their order matters");
}

// Two command buffers, one after the other without waiting.
void run_two(const Gpu& gpu, bool with_fence, bool waits) {
  const auto fence = gpu.device->new_fence();
  for (int i = 0; i < 2; ++i) {
    const auto command_buffer = gpu.command_buffer();
    const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
    encoder.set_label(make_string("pass " + std::to_string(i)));
    if (with_fence) encoder.wait_for(fence.get());
    encode_add(encoder, gpu);
    if (with_fence) encoder.update(fence.get());
    encoder.end_encoding();
    command_buffer.commit();
    if (waits || i == 1) wait(command_buffer);
  }
}

TEST_F(StandinMetalTest, FencesWaitsAndTrackingOrderCommandBuffers) {
  for (const auto& [tracked, with_fence, waits] :
       {std::tuple(false, true, false), std::tuple(false, false, true),
        std::tuple(true, false, false)}) {
    const Gpu gpu(tracked ? ResourceOptions::StorageModeShared : kUntracked);
    run_two(gpu, with_fence, waits);
    EXPECT_EQ(Gpu::first(gpu.y), 5);
  }
}

TEST_F(StandinMetalDeathTest, CommandBuffersOverUntrackedMemoryMayOverlap) {
  auto use = [] {
    standin::hold_execution(true);
    run_two(Gpu(), false, false);
  };
  EXPECT_DEATH(use(), "'pass 1' may overlap encoder 'pass 0'.*the untracked buffer 'y'");
}

TEST_F(StandinMetalTest, RetainedBuffersOutliveTheirOwner) {
  Gpu gpu;
  const auto command_buffer = gpu.command_buffer();
  const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
  encode_add(encoder, gpu);
  encoder.end_encoding();
  gpu.y = {};
  command_buffer.commit();
  wait(command_buffer);
  EXPECT_EQ(command_buffer.status(), CommandBufferStatus::Completed);
}

TEST_F(StandinMetalTest, CapturesWhereItIsEnabled) {
  const TemporaryFolder folder;
  const Gpu gpu;
  const auto manager = CaptureManager::shared();
  const auto descriptor = make_object<CaptureDescriptor>();
  descriptor->set_capture_object(gpu.queue.get());
  descriptor->set_destination(CaptureDestination::GPUTraceDocument);
  descriptor->set_output_url(make_file_url(folder.path("a.gputrace")));
  NSError error;
  standin::settings().capture_enabled = false;
  EXPECT_FALSE(manager.supports(CaptureDestination::GPUTraceDocument));
  EXPECT_FALSE(manager.start(descriptor.get(), error));
  standin::settings().capture_enabled = true;
  EXPECT_TRUE(manager.start(descriptor.get(), error));
  manager.stop();
  EXPECT_FALSE(manager.start(descriptor.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("already exists"));
}

}  // namespace
}  // namespace gander::gpu::metal
