#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "backend/gpu/kernel_source.h"
#include "backend/gpu/metal/metal_api.h"
#include "backend/gpu/primitives.h"
#include "tests/metal_standin/standin.h"

// A program of Metal over the stand-in, for tests of the stand-in itself.
namespace gander::gpu::metal {

inline constexpr std::uint32_t kCount = 64;
inline constexpr UInteger kBytes = kCount * sizeof(float);
inline constexpr auto kUntracked = ResourceOptions::HazardTrackingModeUntracked;

// A device with what a program makes first, and y = 1, 1, ...; x = 2, 2, ...
struct Gpu {
  explicit Gpu(ResourceOptions options = kUntracked) {
    const Retained<Array> gpus(Array{{MTLCopyAllDevices()}});
    device = retain(gpus->at<MetalGpu>(0));
    queue = device->new_command_queue(4);
    const auto compile_options = make_object<CompileOptions>();
    NSError error;
    functions = device->new_library(make_string(std::string(kernel_source())),
                                    compile_options.get(), error);
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
    const auto function = functions->new_function(make_string(kernel), values.get(), error);
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
  Retained<Library> functions;
  Retained<Buffer> x, y;
};

inline void set_pipeline(ComputeEncoder encoder, const Gpu& gpu, const char* kernel) {
  encoder.set_pipeline(gpu.pipeline(kernel).get());
}

// y = y + x, or x = x + y
inline void encode_add(ComputeEncoder encoder, const Gpu& gpu, bool swapped = false) {
  set_pipeline(encoder, gpu, "add");
  encoder.set_buffer((swapped ? gpu.y : gpu.x).get(), 0, 0);
  encoder.set_buffer((swapped ? gpu.x : gpu.y).get(), 0, 1);
  const BroadcastParameters parameters = {kCount, kCount};
  encoder.set_bytes(&parameters, sizeof(parameters), 2);
  encoder.dispatch_threadgroups({kCount / 32}, {32});
}

inline void wait(CommandBuffer command_buffer) {
  send<"waitUntilCompleted">(command_buffer);
}

// Encodes with `encode`, commits and waits.
inline CommandBuffer run(const Gpu& gpu, const std::function<void(ComputeEncoder)>& encode,
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

}  // namespace gander::gpu::metal
