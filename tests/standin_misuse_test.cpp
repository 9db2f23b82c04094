// The stand-in for Metal ends the program on misuse.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>

#include "tests/support/standin_gpu.h"

namespace gander::gpu::metal {
namespace {

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

}  // namespace
}  // namespace gander::gpu::metal
