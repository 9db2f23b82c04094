// The stand-in for Metal: it runs kernels as Metal would, fails where asked to, and ends the
// program on misuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <future>
#include <thread>

#include "backend/gpu/kernel_source.h"
#include "backend/gpu/metal/metal_api.h"
#include "backend/gpu/primitives.h"
#include "kernels/function_constants.h"
#include "tests/metal_standin/standin.h"
#include "tests/support/temporary_folder.h"

namespace gander::gpu::metal {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kCount = 64;
constexpr UInteger kBytes = kCount * sizeof(float);
constexpr auto kUntracked = ResourceOptions::HazardTrackingModeUntracked;

// A device with what a program makes first, and y = 1, 1, ...; x = 2, 2, ...
struct Gpu {
  explicit Gpu(ResourceOptions options = kUntracked) {
    const Retained<Array> gpus(Array{{MTLCopyAllDevices()}});
    device = retain(gpus->at<MetalGpu>(0));
    queue = device->new_command_queue(4);
    const auto compile_options = make_object<CompileOptions>();
    NSError error;
    library = device->new_library(make_string(std::string(kernel_source())), compile_options.get(),
                                  error);
    y = buffer(1, options);
    x = buffer(2, options);
    y->set_label(make_string("y"));
  }

  Retained<Buffer> buffer(float value, ResourceOptions options = kUntracked) const {
    auto made = device->new_buffer(kBytes, options);
    std::fill_n(static_cast<float*>(made->contents()), kCount, value);
    return made;
  }
  static float first(const Retained<Buffer>& buffer) {
    return *static_cast<const float*>(buffer->contents());
  }
  Retained<PipelineState> pipeline(const char* kernel, bool whole_groups = true) const {
    NSError error;
    const auto values = make_object<FunctionConstantValues>();
    const auto function = library->new_function(make_string(kernel), values.get(), error);
    const auto descriptor = make_object<PipelineDescriptor>();
    descriptor->set_compute_function(function.get());
    descriptor->set_group_size_is_multiple_of_execution_width(whole_groups);
    return device->new_pipeline(descriptor.get(), PipelineOption::None, error);
  }
  CommandBuffer command_buffer(bool retained = true) const {
    const auto descriptor = make_object<CommandBufferDescriptor>();
    descriptor->set_retained_references(retained);
    descriptor->set_error_options(ErrorOption::EncoderExecutionStatus);
    return queue->command_buffer(descriptor.get());
  }

  AutoreleasePool pool;
  Retained<MetalGpu> device;
  Retained<CommandQueue> queue;
  Retained<Library> library;
  Retained<Buffer> x, y;
};

void set_pipeline(ComputeEncoder encoder, const Gpu& gpu, const char* kernel) {
  encoder.set_pipeline(gpu.pipeline(kernel).get());
}

// y = y + x, or x = x + y
void encode_add(ComputeEncoder encoder, const Gpu& gpu, bool swapped = false) {
  set_pipeline(encoder, gpu, "add");
  encoder.set_buffer((swapped ? gpu.y : gpu.x).get(), 0, 0);
  encoder.set_buffer((swapped ? gpu.x : gpu.y).get(), 0, 1);
  const BroadcastParameters parameters = {kCount, kCount};
  encoder.set_bytes(&parameters, sizeof(parameters), 2);
  encoder.dispatch_threadgroups({kCount / 32}, {32});
}

void wait(CommandBuffer command_buffer) {
  send<"waitUntilCompleted">(command_buffer);
}

// Encodes with `encode`, commits and waits.
CommandBuffer run(const Gpu& gpu, const std::function<void(ComputeEncoder)>& encode,
                  DispatchType type = DispatchType::Concurrent) {
  const auto command_buffer = gpu.command_buffer();
  const auto encoder = command_buffer.compute_encoder(type);
  encode(encoder);
  encoder.end_encoding();
  command_buffer.commit();
  wait(command_buffer);
  return command_buffer;
}

class StandinMetalTest : public testing::Test {
 protected:
  StandinMetalTest() {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    standin::reset();
  }
  ~StandinMetalTest() override {
    EXPECT_EQ(standin::leaks(), "");
    standin::reset();
  }
};
using StandinMetalDeathTest = StandinMetalTest;

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
  EXPECT_FALSE(gpu.library->new_function(make_string("bled"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("bled was not found"));
  EXPECT_FALSE(gpu.library->new_function(make_string("embed"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("needs the function constant kWidth"));
  const std::uint32_t one = 1;
  for (std::uint32_t i = 0; i < GANDER_CONSTANT_COUNT; ++i) values->set(&one, DataType::UInt, i);
  EXPECT_FALSE(gpu.library->new_function(make_string("embed"), values.get(), error));
  EXPECT_THAT(describe(error), HasSubstr("is of type float, its value of type uint"));
  values->set(&one, DataType::Float, GANDER_NORM_EPSILON);
  EXPECT_TRUE(gpu.library->new_function(make_string("embed"), values.get(), error));
}

TEST_F(StandinMetalTest, ArchivesKeepPipelines) {
  const TemporaryFolder folder;
  const std::string path = folder.path("pipelines");
  const Gpu gpu;
  NSError error;
  const auto values = make_object<FunctionConstantValues>();
  const auto function = gpu.library->new_function(make_string("add"), values.get(), error);
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

TEST_F(StandinMetalDeathTest, OutsideOfABuffer) {
  auto write = [](UInteger size) {
    const Gpu gpu;
    const auto small = gpu.device->new_buffer(size, kUntracked);
    small->set_label(make_string("small"));
    run(gpu, [&](auto encoder) {
      set_pipeline(encoder, gpu, "blit");
      encoder.set_buffer(gpu.x.get(), 0, 0);
      encoder.set_buffer(small.get(), 0, 1);
      const CountParameters parameters = {2 * kCount};
      encoder.set_bytes(&parameters, sizeof(parameters), 2);
      encoder.dispatch_threadgroups({2 * kCount / 32}, {32});
    });
  };
  EXPECT_DEATH(write(kBytes), "kernel blit read or wrote outside of its buffers");
  auto write_few = [] {
    const Gpu gpu;
    const auto small = gpu.device->new_buffer(kBytes - 4, kUntracked);
    small->set_label(make_string("small"));
    run(gpu, [&](auto encoder) {
      set_pipeline(encoder, gpu, "blit");
      encoder.set_buffer(gpu.x.get(), 0, 0);
      encoder.set_buffer(small.get(), 0, 1);
      const CountParameters parameters = {kCount};
      encoder.set_bytes(&parameters, sizeof(parameters), 2);
      encoder.dispatch_threadgroups({kCount / 32}, {32});
    });
  };
  EXPECT_DEATH(write_few(), "kernel blit wrote outside of the buffer 'small' of 252 bytes");
}

// What must not be done with an encoder that has y = y + x bound and ready.
void misuse_encoder(const std::function<void(const Gpu&, CommandBuffer, ComputeEncoder)>& misuse) {
  const Gpu gpu;
  const auto command_buffer = gpu.command_buffer();
  const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
  encode_add(encoder, gpu);
  misuse(gpu, command_buffer, encoder);
  encoder.end_encoding();
}

struct Misuse {
  const char* name;
  void (*commit)(const Gpu&, CommandBuffer, ComputeEncoder);
  const char* message;
};

const Misuse kMisuses[] = {
    {"EncodesAfterEnd",
     [](const Gpu& gpu, CommandBuffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       encode_add(encoder, gpu);
     },
     "setComputePipelineState: after endEncoding"},
    {"EndsTwice", [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.end_encoding(); },
     "endEncoding after endEncoding"},
    {"CommitsBeforeEnd", [](const Gpu&, CommandBuffer buffer, ComputeEncoder) { buffer.commit(); },
     "commit before endEncoding"},
    {"SecondEncoderBeforeEnd",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder) {
       buffer.compute_encoder(DispatchType::Serial);
     },
     "a new encoder before endEncoding"},
    {"CommitsTwice",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       buffer.commit();
       buffer.commit();
     },
     "commit after commit"},
    {"EncodesAfterCommit",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       buffer.commit();
       buffer.compute_encoder(DispatchType::Serial);
     },
     "a new encoder after commit"},
    {"HandlerAfterCommit",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       buffer.commit();
       buffer.add_completed_handler(nullptr);
     },
     "addCompletedHandler: after commit"},
    {"WaitsBeforeCommit",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       wait(buffer);
     },
     "waitUntilCompleted before commit"},
    {"NoPipeline",
     [](const Gpu&, CommandBuffer buffer, ComputeEncoder encoder) {
       encoder.end_encoding();
       buffer.compute_encoder(DispatchType::Serial).dispatch_threadgroups({1}, {32});
     },
     "a dispatch without a pipeline"},
    {"NilPipeline",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.set_pipeline({}); },
     "setComputePipelineState: with nil"},
    {"UnboundBuffer",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_buffer({}, 0, 1);
       encoder.dispatch_threadgroups({1}, {32});
     },
     "kernel add: nothing is bound at buffer index 1"},
    {"StructureTooShort",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_bytes(&kCount, 4, 2);
       encoder.dispatch_threadgroups({1}, {32});
     },
     "buffer index 2 has 4 bytes, the argument 8"},
    {"IndexTooLarge",
     [](const Gpu& gpu, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_buffer(gpu.x.get(), 0, 31);
     },
     "buffer index 31, the largest is 30"},
    {"OffsetBeyondTheEnd",
     [](const Gpu& gpu, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_buffer(gpu.y.get(), kBytes, 1);
     },
     "offset 256 is beyond the buffer 'y' of 256 bytes"},
    {"OffsetUnaligned",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.set_buffer_offset(2, 1); },
     "not a multiple of 4"},
    {"OffsetOfNothing",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.set_buffer_offset(0, 5); },
     "no buffer is bound there"},
    {"TooManyBytes",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       const std::vector<char> bytes(4097);
       encoder.set_bytes(bytes.data(), bytes.size(), 2);
     },
     "setBytes:length:4097"},
    {"NoBytes",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.set_bytes("", 0, 2); },
     "setBytes:length:0"},
    {"GroupMemoryUnaligned",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_threadgroup_memory_length(24, 0);
     },
     "setThreadgroupMemoryLength:24: not a multiple of 16"},
    {"TooMuchGroupMemory",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.set_threadgroup_memory_length((32 << 10) + 16, 0);
       encoder.dispatch_threadgroups({1}, {32});
     },
     "32784 bytes of thread-group memory"},
    {"TooManyThreads",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.dispatch_threadgroups({1}, {1056});
     },
     "1056 threads in a group, its pipeline allows 1024"},
    {"MoreThreadsThanThePipelineAllows",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       standin::settings().max_threads["add"] = 64;
       encoder.dispatch_threadgroups({1}, {96});
     },
     "96 threads in a group, its pipeline allows 64"},
    {"HalfASimdGroup",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.dispatch_threadgroups({1}, {16});
     },
     "made for multiples of 32"},
    {"EmptyGrid",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.dispatch_threadgroups({0}, {32});
     },
     "a grid of 0 x 1 x 1 groups of 32 x 1 x 1 threads is empty"},
    {"BarrierOfTextures",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.memory_barrier(BarrierScope(2));
     },
     "does not order buffers"},
    {"OpenDebugGroup",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) {
       encoder.push_debug_group(make_string("layer 0"));
     },
     "1 debug groups are open"},
    {"UnbalancedDebugGroup",
     [](const Gpu&, CommandBuffer, ComputeEncoder encoder) { encoder.pop_debug_group(); },
     "popDebugGroup without a push"},
    {"WaitsForItsOwnFence",
     [](const Gpu& gpu, CommandBuffer, ComputeEncoder encoder) {
       const auto fence = gpu.device->new_fence();
       encoder.update(fence.get());
       encoder.wait_for(fence.get());
     },
     "waits for a fence that it updates itself"},
    {"TooManyCommandBuffers",
     [](const Gpu& gpu, CommandBuffer, ComputeEncoder) {
       for (int i = 0; i < 4; ++i) gpu.command_buffer();
     },
     "all 4 command buffers of queue '' are in use"},
};

class StandinMisuseDeathTest : public StandinMetalTest,
                               public testing::WithParamInterface<Misuse> {};

TEST_P(StandinMisuseDeathTest, EndsTheProgram) {
  EXPECT_DEATH(misuse_encoder(GetParam().commit), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Encoder, StandinMisuseDeathTest, testing::ValuesIn(kMisuses),
                         [](const auto& misuse) { return std::string(misuse.param.name); });

TEST_F(StandinMetalDeathTest, EncoderThatNobodyEnds) {
  auto use = [] {
    const Gpu gpu;
    gpu.command_buffer().compute_encoder(DispatchType::Serial);
  };
  EXPECT_DEATH(use(), "encoder '' was released without endEncoding");
}

// In a command buffer that does not retain what its commands refer to.
TEST_F(StandinMetalDeathTest, UnretainedReferencesReleasedTooEarly) {
  enum class When { BeforeDispatch, BeforeCommit, BeforeItRuns };
  auto use = [](When when, bool pipeline_goes) {
    Gpu gpu;
    auto pipeline = gpu.pipeline("affine");
    const auto release = [&] {
      if (pipeline_goes) pipeline = {};
      if (!pipeline_goes) gpu.y = {};
    };
    const auto command_buffer = gpu.command_buffer(false);
    const auto encoder = command_buffer.compute_encoder(DispatchType::Concurrent);
    encoder.set_pipeline(pipeline.get());
    encoder.set_buffer(gpu.y.get(), 0, 0);
    const AffineParameters parameters = {kCount, 1, 1};
    encoder.set_bytes(&parameters, sizeof(parameters), 1);
    if (when == When::BeforeDispatch) release();
    encoder.dispatch_threadgroups({1}, {32});
    encoder.end_encoding();
    if (when == When::BeforeCommit) release();
    standin::hold_execution(true);
    command_buffer.commit();
    if (when == When::BeforeItRuns) release();
    standin::hold_execution(false);
    wait(command_buffer);
  };
  EXPECT_DEATH(use(When::BeforeDispatch, true), "its pipeline has been released");
  EXPECT_DEATH(use(When::BeforeDispatch, false), "the buffer at index 0 has been released");
  for (const bool pipeline_goes : {true, false}) {
    for (const When when : {When::BeforeCommit, When::BeforeItRuns}) {
      EXPECT_DEATH(use(when, pipeline_goes), "a buffer or pipeline of it was released before");
    }
  }
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

TEST_F(StandinMetalDeathTest, ResidencySets) {
  auto make = [](const Gpu& gpu) {
    NSError error;
    const auto descriptor = make_object<ResidencySetDescriptor>();
    auto set = gpu.device->new_residency_set(descriptor.get(), error);
    set->add(gpu.x.get());
    gpu.queue->add_residency_set(set.get());
    return set;
  };
  auto commit_late = [&make] {
    const Gpu gpu;
    const auto set = make(gpu);
    run(gpu, [&](auto encoder) { encode_add(encoder, gpu); });
  };
  EXPECT_DEATH(commit_late(), "residency set '' has changes that are not committed");
  auto never_end = [&make] {
    const Gpu gpu;
    const auto set = make(gpu);
    set->commit();
    set->request_residency();
  };
  EXPECT_DEATH(never_end(), "released with its residency requested");
  const Gpu gpu;
  const auto set = make(gpu);
  set->commit();
  set->request_residency();
  run(gpu, [&](auto encoder) { encode_add(encoder, gpu); });
  set->end_residency();
}

TEST_F(StandinMetalDeathTest, WrapsWholePages) {
  const auto page = static_cast<UInteger>(getpagesize());
  auto wrap = [page](UInteger offset, UInteger size, bool unmaps = false) {
    const Gpu gpu;
    void* const pages =
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto* const bytes = static_cast<char*>(pages);
    if (unmaps) munmap(bytes + page, page);
    const auto buffer = gpu.device->new_buffer_over(bytes + offset, size, kUntracked);
    std::memset(buffer->contents(), 1, size);
    EXPECT_EQ(bytes[2 * page - 1], 1);
    munmap(pages, 2 * page);
  };
  wrap(0, 2 * page);
  EXPECT_DEATH(wrap(16, page), "must be multiples of the page size");
  EXPECT_DEATH(wrap(0, page + 16), "must be multiples of the page size");
  EXPECT_DEATH(wrap(0, 2 * page, true), "not all of the .* bytes at .* are mapped");
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
