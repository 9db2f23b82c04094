#pragma once

#include "backend/gpu/metal/objc.h"

// The part of Metal that the backend uses, name for name: a structure a class or protocol, a
// function a method, constants with Metal's values. A method called new... returns a reference that
// the caller owns, or none and then, where there is one, an error; other objects belong to the
// pool.

extern "C" {
void* MTLCopyAllDevices();  // NSArray<id<MTLDevice>>*, owned by the caller
extern void* const MTLCommandBufferEncoderInfoErrorKey;
}

namespace gander::gpu::metal {

struct Size {  // MTLSize
  UInteger width = 1, height = 1, depth = 1;
};

enum class ResourceOptions : UInteger {
  StorageModeShared = 0,
  HazardTrackingModeUntracked = 1 << 8,
};
constexpr ResourceOptions operator|(ResourceOptions a, ResourceOptions b) {
  return ResourceOptions(UInteger(a) | UInteger(b));
}

enum class DispatchType : UInteger { Serial = 0, Concurrent = 1 };
enum class BarrierScope : UInteger { Buffers = 1 };
enum class DataType : UInteger { Float = 3, UInt = 33 };
enum class GpuFamily : Integer { Apple7 = 1007 };  // MTLGPUFamily
enum class LanguageVersion : UInteger { Version3_1 = (3 << 16) + 1, Version3_2 = (3 << 16) + 2 };
enum class MathMode : Integer { Safe = 0 };
enum class MathFunctions : Integer { Precise = 1 };  // MTLMathFloatingPointFunctions
enum class PipelineOption : UInteger { None = 0, FailOnBinaryArchiveMiss = 4 };
enum class CaptureDestination : Integer { GPUTraceDocument = 2 };
enum class ErrorOption : UInteger { EncoderExecutionStatus = 1 };  // MTLCommandBufferErrorOption
enum class CommandBufferStatus : UInteger { Completed = 4, Error = 5 };
enum class EncoderState : Integer {
  Unknown = 0,
  Completed = 1,
  Affected = 2,
  Pending = 3,
  Faulted = 4
};  // MTLCommandEncoderErrorState
enum class CommandBufferError : Integer {
  Internal = 1,
  Timeout = 2,
  PageFault = 3,
  AccessRevoked = 4,
  NotPermitted = 7,
  OutOfMemory = 8,
  InvalidResource = 9,
  DeviceRemoved = 11,
  StackOverflow = 12,
};

/// What has a label in the tools: buffers, pipelines, queues, encoders.
struct Labelled : Object {
  void set_label(String label) const { send<"setLabel:">(*this, label); }
};

struct Buffer : Labelled {
  void* contents() const { return send<"contents", void*>(*this); }
  UInteger length() const { return send<"length", UInteger>(*this); }
};

struct Function : Object {};

struct FunctionConstantValues : Object {
  static constexpr const char* kClass = "MTLFunctionConstantValues";
  void set(const void* value, DataType type, UInteger index) const {
    send<"setConstantValue:type:atIndex:">(*this, value, type, index);
  }
};

struct Library : Labelled {
  Retained<Function> new_function(String name, FunctionConstantValues constants,
                                  NSError& error) const {
    return Retained<Function>(send<"newFunctionWithName:constantValues:error:", Function>(
        *this, name, constants, &error.id));
  }
};

struct CompileOptions : Object {
  static constexpr const char* kClass = "MTLCompileOptions";
  void set_language_version(LanguageVersion version) const {
    send<"setLanguageVersion:">(*this, version);
  }
  bool has_math_mode() const { return responds_to<"setMathMode:">(*this); }  // macOS 15
  void set_math_mode(MathMode mode) const { send<"setMathMode:">(*this, mode); }
  void set_math_functions(MathFunctions functions) const {
    send<"setMathFloatingPointFunctions:">(*this, functions);
  }
  void set_fast_math_enabled(bool enabled) const { send<"setFastMathEnabled:">(*this, enabled); }
};

struct PipelineState : Object {
  UInteger max_total_threads_per_threadgroup() const {
    return send<"maxTotalThreadsPerThreadgroup", UInteger>(*this);
  }
  UInteger thread_execution_width() const { return send<"threadExecutionWidth", UInteger>(*this); }
};

struct PipelineDescriptor : Labelled {
  static constexpr const char* kClass = "MTLComputePipelineDescriptor";
  void set_compute_function(Function function) const {
    send<"setComputeFunction:">(*this, function);
  }
  void set_group_size_is_multiple_of_execution_width(bool multiple) const {
    send<"setThreadGroupSizeIsMultipleOfThreadExecutionWidth:">(*this, multiple);
  }
  void set_binary_archives(Array archives) const { send<"setBinaryArchives:">(*this, archives); }
};

struct BinaryArchiveDescriptor : Object {
  static constexpr const char* kClass = "MTLBinaryArchiveDescriptor";
  void set_url(Url url) const { send<"setUrl:">(*this, url); }
};

struct BinaryArchive : Labelled {
  bool add(PipelineDescriptor descriptor, NSError& error) const {
    return send<"addComputePipelineFunctionsWithDescriptor:error:", bool>(*this, descriptor,
                                                                          &error.id);
  }
  bool serialize(Url url, NSError& error) const {
    return send<"serializeToURL:error:", bool>(*this, url, &error.id);
  }
};

struct ResidencySetDescriptor : Labelled {
  static constexpr const char* kClass = "MTLResidencySetDescriptor";
};

struct ResidencySet : Object {
  void add(Buffer buffer) const { send<"addAllocation:">(*this, buffer); }
  void commit() const { send<"commit">(*this); }
  void request_residency() const { send<"requestResidency">(*this); }
  void end_residency() const { send<"endResidency">(*this); }
};

struct Fence : Labelled {};

struct ComputeEncoder : Labelled {
  void set_pipeline(PipelineState state) const { send<"setComputePipelineState:">(*this, state); }
  void set_buffer(Buffer buffer, UInteger offset, UInteger index) const {
    send<"setBuffer:offset:atIndex:">(*this, buffer, offset, index);
  }
  void set_buffer_offset(UInteger offset, UInteger index) const {
    send<"setBufferOffset:atIndex:">(*this, offset, index);
  }
  void set_bytes(const void* bytes, UInteger length, UInteger index) const {
    send<"setBytes:length:atIndex:">(*this, bytes, length, index);
  }
  void set_threadgroup_memory_length(UInteger length, UInteger index) const {
    send<"setThreadgroupMemoryLength:atIndex:">(*this, length, index);
  }
  void dispatch_threadgroups(Size groups, Size threads) const {
    send<"dispatchThreadgroups:threadsPerThreadgroup:">(*this, groups, threads);
  }
  void memory_barrier(BarrierScope scope) const { send<"memoryBarrierWithScope:">(*this, scope); }
  void wait_for(Fence fence) const { send<"waitForFence:">(*this, fence); }
  void update(Fence fence) const { send<"updateFence:">(*this, fence); }
  void push_debug_group(String name) const { send<"pushDebugGroup:">(*this, name); }
  void pop_debug_group() const { send<"popDebugGroup">(*this); }
  void end_encoding() const { send<"endEncoding">(*this); }
};

struct CommandBufferEncoderInfo : Object {
  EncoderState error_state() const { return send<"errorState", EncoderState>(*this); }
};

struct CommandBufferDescriptor : Object {
  static constexpr const char* kClass = "MTLCommandBufferDescriptor";
  void set_retained_references(bool retained) const {
    send<"setRetainedReferences:">(*this, retained);
  }
  void set_error_options(ErrorOption options) const { send<"setErrorOptions:">(*this, options); }
};

struct CommandBuffer : Labelled {
  ComputeEncoder compute_encoder(DispatchType type) const {
    return send<"computeCommandEncoderWithDispatchType:", ComputeEncoder>(*this, type);
  }
  /// `block` is a Block of a function that takes a CommandBuffer.
  void add_completed_handler(Id block) const { send<"addCompletedHandler:">(*this, block); }
  void commit() const { send<"commit">(*this); }
  CommandBufferStatus status() const { return send<"status", CommandBufferStatus>(*this); }
  NSError error() const { return send<"error", NSError>(*this); }
  double gpu_start_time() const { return send<"GPUStartTime", double>(*this); }  // seconds
  double gpu_end_time() const { return send<"GPUEndTime", double>(*this); }
};

struct CommandQueue : Labelled {
  CommandBuffer command_buffer(CommandBufferDescriptor descriptor) const {
    return send<"commandBufferWithDescriptor:", CommandBuffer>(*this, descriptor);
  }
  void add_residency_set(ResidencySet set) const { send<"addResidencySet:">(*this, set); }
};

struct MetalGpu : Object {  // MTLDevice
  String name() const { return send<"name", String>(*this); }
  UInteger registry_id() const { return send<"registryID", UInteger>(*this); }
  bool supports(GpuFamily family) const { return send<"supportsFamily:", bool>(*this, family); }
  UInteger max_buffer_length() const { return send<"maxBufferLength", UInteger>(*this); }
  UInteger max_threadgroup_memory_length() const {
    return send<"maxThreadgroupMemoryLength", UInteger>(*this);
  }
  UInteger recommended_max_working_set_size() const {
    return send<"recommendedMaxWorkingSetSize", UInteger>(*this);
  }
  UInteger current_allocated_size() const { return send<"currentAllocatedSize", UInteger>(*this); }

  Retained<CommandQueue> new_command_queue(UInteger max_command_buffers) const {
    return Retained<CommandQueue>(send<"newCommandQueueWithMaxCommandBufferCount:", CommandQueue>(
        *this, max_command_buffers));
  }
  Retained<Fence> new_fence() const { return Retained<Fence>(send<"newFence", Fence>(*this)); }
  Retained<Buffer> new_buffer(UInteger length, ResourceOptions options) const {
    return Retained<Buffer>(send<"newBufferWithLength:options:", Buffer>(*this, length, options));
  }
  /// Over memory that outlives the buffer, of whole pages.
  Retained<Buffer> new_buffer_over(void* pages, UInteger length, ResourceOptions options) const {
    return Retained<Buffer>(send<"newBufferWithBytesNoCopy:length:options:deallocator:", Buffer>(
        *this, pages, length, options, Id{}));
  }
  Retained<Library> new_library(String source, CompileOptions options, NSError& error) const {
    return Retained<Library>(
        send<"newLibraryWithSource:options:error:", Library>(*this, source, options, &error.id));
  }
  /// `data` is a dispatch_data_t.
  Retained<Library> new_library(Object data, NSError& error) const {
    return Retained<Library>(send<"newLibraryWithData:error:", Library>(*this, data, &error.id));
  }
  Retained<PipelineState> new_pipeline(PipelineDescriptor descriptor, PipelineOption options,
                                       NSError& error) const {
    return Retained<PipelineState>(
        send<"newComputePipelineStateWithDescriptor:options:reflection:error:", PipelineState>(
            *this, descriptor, options, static_cast<Id*>(nullptr), &error.id));
  }
  Retained<BinaryArchive> new_binary_archive(BinaryArchiveDescriptor descriptor,
                                             NSError& error) const {
    return Retained<BinaryArchive>(
        send<"newBinaryArchiveWithDescriptor:error:", BinaryArchive>(*this, descriptor, &error.id));
  }
  bool has_residency_sets() const {  // macOS 15
    return responds_to<"newResidencySetWithDescriptor:error:">(*this);
  }
  Retained<ResidencySet> new_residency_set(ResidencySetDescriptor descriptor,
                                           NSError& error) const {
    return Retained<ResidencySet>(
        send<"newResidencySetWithDescriptor:error:", ResidencySet>(*this, descriptor, &error.id));
  }
};

struct CaptureDescriptor : Object {
  static constexpr const char* kClass = "MTLCaptureDescriptor";
  void set_capture_object(Object object) const { send<"setCaptureObject:">(*this, object); }
  void set_destination(CaptureDestination destination) const {
    send<"setDestination:">(*this, destination);
  }
  void set_output_url(Url url) const { send<"setOutputURL:">(*this, url); }
};

struct CaptureManager : Object {
  static CaptureManager shared() {
    return send<"sharedCaptureManager", CaptureManager>(class_named("MTLCaptureManager"));
  }
  bool supports(CaptureDestination destination) const {
    return send<"supportsDestination:", bool>(*this, destination);
  }
  bool start(CaptureDescriptor descriptor, NSError& error) const {
    return send<"startCaptureWithDescriptor:error:", bool>(*this, descriptor, &error.id);
  }
  void stop() const { send<"stopCapture">(*this); }
};

}  // namespace gander::gpu::metal
