#include "backend/gpu/cuda/cuda_device.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <optional>

#include "backend/gpu/cuda/ptx.h"
#include "backend/gpu/cuda/side_stream.h"
#include "backend/gpu/cuda/staging.h"
#include "base/error.h"

namespace gander::gpu::cuda {
namespace {

struct Buffer {
  Address address = 0;
  std::uint64_t bytes = 0;
};

struct Pipeline {
  std::string name;
  std::vector<FunctionConstant> constants;
  Module module = nullptr;
  Function function = nullptr;
  std::uint32_t argument_bytes = 0;
  bool waits_itself = false;  ///< for the kernel before it
  std::uint32_t max_threads = 0;
  std::uint32_t group_memory = kPlainGroupMemory;  ///< bytes it may be launched with
};

/// A submission that nobody has waited for.
struct Pending {
  std::uint64_t number = 0;
  Event done = nullptr;
  std::string_view first;  ///< kernel; empty where there is none
  std::size_t dispatches = 0;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(const CudaOptions& options)
      : driver_(options.driver != nullptr ? *options.driver : load_driver()),
        modules_(options.modules.empty() ? kernel_modules() : options.modules) {
    if (modules_.empty()) {
      fail("CUDA: built without kernels: configure with -DGANDER_CUDA_KERNELS=ON (needs clang 19)");
    }
    check(driver_.Init(0), "cuInit", "is an NVIDIA GPU visible to this program?");
    choose(options.ordinal);
    describe_device();
    check(driver_.DevicePrimaryCtxRetain(&context_, handle_), "cuDevicePrimaryCtxRetain",
          "is the GPU free?");
    make_current();
    check(driver_.StreamCreate(&stream_, kStreamNonBlocking), "cuStreamCreate", kReopen);
    std::size_t free = 0, total = 0;
    if (driver_.MemGetInfo(&free, &total) == 0) info_.free_bytes = free;
    staging_.emplace(driver_, stream_,
                     [this](Result result, std::string_view call) { check_queued(result, call); });
    side_.emplace(driver_,
                  [this](Result result, std::string_view call) { check(result, call, kReopen); });
  }

  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  // What fails here failed before, and was reported.
  ~CudaDevice() override {
    driver_.CtxSetCurrent(context_);
    driver_.StreamSynchronize(stream_);
    staging_.reset();
    side_.reset();
    for (const Pending& pending : pending_) driver_.EventDestroy(pending.done);
    for (Event event : events_) driver_.EventDestroy(event);
    for (const Pipeline& pipeline : pipelines_) driver_.ModuleUnload(pipeline.module);
    for (const Buffer& buffer : buffers_) driver_.MemFree(buffer.address);
    driver_.StreamDestroy(stream_);
    driver_.DevicePrimaryCtxRelease(handle_);
  }

  const DeviceInfo& info() const override { return info_; }

  std::uint32_t allocate(std::uint64_t bytes, std::string_view label) override {
    make_current();
    Buffer buffer{0, bytes};
    if (const Result result = driver_.MemAlloc(&buffer.address, bytes); result == kOutOfMemory) {
      std::size_t free = 0, total = 0;
      driver_.MemGetInfo(&free, &total);
      fail(
          "CUDA: no memory for {}: {} MB wanted, {} of {} MB free on {}: close other programs that "
          "use it, or take a smaller model",
          label, bytes >> 20, free >> 20, total >> 20, info_.name);
    } else {
      check(result, "cuMemAlloc", kReopen);
    }
    buffers_.push_back(buffer);
    check_queued(driver_.MemsetD8Async(buffer.address, 0, bytes, stream_), "cuMemsetD8Async");
    return static_cast<std::uint32_t>(buffers_.size() - 1);
  }

  std::uint32_t wrap(std::span<const std::byte>, std::string_view label) override {
    fail("CUDA: {} cannot stay in the memory of the CPU: allocate and write it", label);
  }

  // The driver has copied pageable memory when it returns, and the device reads that copy after
  // what was queued before: a token can be written while earlier ones run.
  void write(const View& view, std::span<const std::byte> bytes) override {
    make_current();
    copy(address(view, bytes.size()), bytes.data(), bytes.size());
  }

  void read(const View& view, std::span<std::byte> bytes) const override {
    make_current();
    check_queued(
        driver_.MemcpyDtoHAsync(bytes.data(), address(view, bytes.size()), bytes.size(), stream_),
        "cuMemcpyDtoHAsync");
    check_queued(driver_.StreamSynchronize(stream_), "cuStreamSynchronize");
  }

  void clear(const View& view) override {
    make_current();
    check_queued(driver_.MemsetD8Async(address(view, view.size), 0, view.size, stream_),
                 "cuMemsetD8Async");
  }

  void copy(const View& from, const View& to) override {
    make_current();
    check_queued(driver_.MemcpyDtoDAsync(address(to, from.size), address(from, from.size),
                                         from.size, stream_),
                 "cuMemcpyDtoDAsync");
    side_->wait_for(stream_);
  }

  void read_aside(const View& view, std::span<std::byte> bytes) const override {
    make_current();
    side_->read(address(view, bytes.size()), bytes);
  }

  void write_aside(const View& view, std::span<const std::byte> bytes) override {
    make_current();
    side_->write(address(view, bytes.size()), bytes);
  }

  // From page-locked memory the copy engine reads while the CPU goes on. Where none is to be had,
  // by write(), which copies once more.
  void fill(std::span<const View> views, const Produce& produce) override {
    make_current();
    staging_->prepare(kFillBytes);
    if (!staging_->ready()) return Device::fill(views, produce);
    std::span<std::byte> place = staging_->take(fill_bytes(views));
    produce(place);
    for (const View& view : views) {
      copy(address(view, view.size), place.data(), view.size);
      place = place.subspan(view.size);
    }
  }

  void finish_fills() override {
    make_current();
    check_queued(driver_.StreamSynchronize(stream_), "cuStreamSynchronize");
    staging_->release();
    Device::finish_fills();
  }

  std::uint64_t allocated_bytes() const override {
    std::uint64_t bytes = 0;
    for (const Buffer& buffer : buffers_) bytes += buffer.bytes;
    return bytes;
  }

  PipelineInfo pipeline(std::string_view function,
                        std::span<const FunctionConstant> constants) override {
    for (std::size_t i = 0; i < pipelines_.size(); ++i) {
      if (pipelines_[i].name == function &&
          std::ranges::equal(pipelines_[i].constants, constants)) {
        return {static_cast<std::uint32_t>(i), pipelines_[i].max_threads};
      }
    }
    make_current();
    pipelines_.push_back(compile(function, constants));
    return {static_cast<std::uint32_t>(pipelines_.size() - 1), pipelines_.back().max_threads};
  }

  std::uint64_t submit(std::span<const Dispatch> dispatches) override {
    queue(dispatches);
    pending_.push_back({++counters_.submissions, new_event(), first_queued_, queued_});
    first_queued_ = {};
    queued_ = 0;
    check_queued(driver_.EventRecord(pending_.back().done, stream_), "cuEventRecord");
    return counters_.submissions;
  }

  void queue(std::span<const Dispatch> dispatches) override {
    make_current();
    if (queued_ == 0 && !dispatches.empty()) first_queued_ = dispatches[0].kernel;
    queued_ += dispatches.size();
    for (const Dispatch& dispatch : dispatches) launch(dispatch);
  }

  void wait(std::uint64_t number) override {
    make_current();
    const auto last = std::ranges::find(pending_, number, &Pending::number);
    if (last == pending_.end()) return;
    ++counters_.waits;
    if (const Result result = driver_.EventSynchronize(last->done); result != 0) {
      report_failure(result);
    }
    while (!pending_.empty() && pending_.front().number <= number) {
      events_.push_back(pending_.front().done);
      pending_.pop_front();
    }
  }

 private:
  static constexpr std::string_view kReopen = "the device is unusable; start the program again";

  /// Throws Error with the call and what to do, unless the call succeeded.
  void check(Result result, std::string_view call, std::string_view advice) const {
    if (result != 0) fail("CUDA: {}: {}: {}", call, driver_.describe(result), advice);
  }

  /// The same for calls that also report what went wrong in kernels before them.
  void check_queued(Result result, std::string_view call) const {
    if (result == 0) return;
    const std::string_view kernel = pending_.empty() ? first_queued_ : pending_.front().first;
    fail("CUDA: {}: {}: {}{}", call, driver_.describe(result),
         kernel.empty() ? ""
                        : fmt::format("a kernel before it may have failed, from {} on; ", kernel),
         kReopen);
  }

  void copy(Address to, const std::byte* from, std::uint64_t bytes) const {
    check_queued(driver_.MemcpyHtoDAsync(to, from, bytes, stream_), "cuMemcpyHtoDAsync");
  }

  void make_current() const { check(driver_.CtxSetCurrent(context_), "cuCtxSetCurrent", kReopen); }

  void choose(int ordinal) {
    int count = 0;
    check(driver_.DeviceGetCount(&count), "cuDeviceGetCount", "is the driver installed?");
    if (ordinal < 0 || ordinal >= count) {
      fail("CUDA: there is no GPU {}: the driver shows {}, numbered from 0", ordinal, count);
    }
    check(driver_.DeviceGet(&handle_, ordinal), "cuDeviceGet", kReopen);
  }

  int attribute(int number) const {
    int value = 0;
    check(driver_.DeviceGetAttribute(&value, number, handle_), "cuDeviceGetAttribute", kReopen);
    return value;
  }

  void describe_device() {
    std::array<char, 128> name{};
    check(driver_.DeviceGetName(name.data(), static_cast<int>(name.size()) - 1, handle_),
          "cuDeviceGetName", kReopen);
    info_.name = name.data();
    if (attribute(kMajorCapability) < 8) {
      fail("CUDA: {} has capability {}.{}: gander needs 8.0 (Ampere) or later", info_.name,
           attribute(kMajorCapability), attribute(kMinorCapability));
    }
    capability_ =
        static_cast<std::uint32_t>(10 * attribute(kMajorCapability) + attribute(kMinorCapability));
    std::size_t bytes = 0;
    check(driver_.DeviceTotalMem(&bytes, handle_), "cuDeviceTotalMem", kReopen);
    info_.max_group_memory = static_cast<std::uint32_t>(attribute(kMaxGroupMemory));
    info_.cores = static_cast<std::uint32_t>(attribute(kMultiprocessors));
    info_.max_buffer_bytes = bytes;
    info_.working_set_bytes = bytes;
    info_.device_fences = true;
    info_.transfers_aside = true;
    if (attribute(kCooperativeLaunch) != 0) info_.resident_groups = info_.cores;
  }

  Address address(const View& view, std::uint64_t bytes) const {
    const Buffer& buffer = buffers_.at(view.buffer);
    if (view.offset + bytes > buffer.bytes) {
      fail("CUDA: {} bytes at {} of a buffer of {}: the view is not of this buffer", bytes,
           view.offset, buffer.bytes);
    }
    return buffer.address + view.offset;
  }

  Pipeline compile(std::string_view function, std::span<const FunctionConstant> constants) {
    const KernelText text = specialise(modules_, function, constants, capability_);
    Pipeline pipeline{std::string(function), {constants.begin(), constants.end()}};
    pipeline.argument_bytes = text.argument_bytes;
    pipeline.waits_itself = text.waits_itself;

    std::array<char, 2048> log{};
    std::array<int, 2> options = {kErrorLogBuffer, kErrorLogBytes};
    std::array<void*, 2> values = {log.data(), std::bit_cast<void*>(log.size() - 1)};
    const Result result = driver_.ModuleLoadDataEx(&pipeline.module, text.ptx.c_str(),
                                                   static_cast<unsigned>(options.size()),
                                                   options.data(), values.data());
    if (result != 0) {
      std::ranges::replace(log, '\n', ' ');
      fail(
          "CUDA: the driver cannot compile kernel {}: {}: {} (a driver of CUDA 12.5 or later is "
          "needed)",
          function, driver_.describe(result), log.data());
    }
    check(driver_.ModuleGetFunction(&pipeline.function, pipeline.module, pipeline.name.c_str()),
          fmt::format("cuModuleGetFunction of {}", function), kReopen);
    int threads = 0;
    check(driver_.FuncGetAttribute(&threads, kFunctionMaxThreads, pipeline.function),
          fmt::format("cuFuncGetAttribute of {}", function), kReopen);
    pipeline.max_threads = static_cast<std::uint32_t>(threads);
    return pipeline;
  }

  /// Lets the kernel have that much group memory.
  void allow_group_memory(Pipeline& pipeline, std::uint32_t bytes) const {
    if (bytes <= pipeline.group_memory) return;
    check(
        driver_.FuncSetAttribute(pipeline.function, kFunctionGroupMemory, static_cast<int>(bytes)),
        fmt::format("cuFuncSetAttribute of {}, {} bytes of group memory", pipeline.name, bytes),
        "take a GPU with more memory in a multiprocessor");
    pipeline.group_memory = bytes;
  }

  Result start(const Dispatch& dispatch, const Pipeline& pipeline, void** block) const {
    std::array<LaunchAttribute, 2> attributes;
    LaunchConfig config;
    config.groups = {dispatch.groups[0], dispatch.groups[1], 1};
    config.threads = {dispatch.threads, 1, 1};
    config.group_memory = dispatch.group_memory;
    config.stream = stream_;
    config.attributes = attributes.data();
    if (dispatch.resident) attributes[config.attribute_count++] = {.id = kCooperative, .value = 1};
    if (pipeline.waits_itself) {
      attributes[config.attribute_count++] = {.id = kProgrammaticStream, .value = 1};
    }
    return driver_.LaunchKernelEx(&config, pipeline.function, block, nullptr);
  }

  void launch(const Dispatch& dispatch) {
    Pipeline& pipeline = pipelines_.at(dispatch.pipeline);
    const std::uint32_t begin = parameter_offset(dispatch.bindings.size());
    if (dispatch.threads > pipeline.max_threads ||
        begin + dispatch.parameters.size() > std::max(pipeline.argument_bytes, begin)) {
      fail(
          "CUDA: kernel {} takes groups of {} threads and {} bytes of arguments, not {} and {}: "
          "correct the dispatch",
          pipeline.name, pipeline.max_threads, pipeline.argument_bytes, dispatch.threads,
          begin + dispatch.parameters.size());
    }
    arguments_.assign(std::max(pipeline.argument_bytes, begin), std::byte{});
    for (std::size_t i = 0; i < dispatch.bindings.size(); ++i) {
      const View& view = dispatch.bindings[i].view;
      const Address start = address(view, view.size);
      std::memcpy(arguments_.data() + i * sizeof start, &start, sizeof start);
    }
    std::ranges::copy(dispatch.parameters, arguments_.begin() + begin);
    void* block = arguments_.data();
    allow_group_memory(pipeline, dispatch.group_memory);
    const Result result = start(dispatch, pipeline, &block);
    if (result != 0) {
      const std::string call = fmt::format(
          "cuLaunchKernelEx of {} ({} × {} groups of {} threads{}, {} bytes of group memory)",
          pipeline.name, dispatch.groups[0], dispatch.groups[1], dispatch.threads,
          dispatch.resident ? ", all at once" : "", dispatch.group_memory);
      check_queued(result, call);
    }
    ++counters_.dispatches;
    counters_.barriers += dispatch.barrier ? 1 : 0;
  }

  Event new_event() {
    Event event = nullptr;
    if (events_.empty()) {
      check(driver_.EventCreate(&event, kEventDisableTiming), "cuEventCreate", kReopen);
    } else {
      event = events_.back();
      events_.pop_back();
    }
    return event;
  }

  /// The driver tells that something failed, not what: name the kernels that can have been running.
  [[noreturn]] void report_failure(Result result) const {
    const Pending& pending = pending_.front();
    if (pending_.size() == 1 && pending.dispatches == 1) {
      fail("CUDA: kernel {} failed: {}: {}", pending.first, driver_.describe(result), kReopen);
    }
    fail(
        "CUDA: a kernel failed: {}: one of {} dispatches from {} on: submit one at a time to "
        "learn which; {}",
        driver_.describe(result), pending.dispatches,
        pending.first.empty() ? std::string_view("?") : pending.first, kReopen);
  }

  const Driver& driver_;
  std::span<const std::string_view> modules_;
  DeviceHandle handle_ = 0;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  std::optional<Staging> staging_;
  mutable std::optional<SideStream> side_;
  DeviceInfo info_;
  std::uint32_t capability_ = 0;  ///< 90 for 9.0
  std::vector<Buffer> buffers_;
  std::vector<Pipeline> pipelines_;
  std::deque<Pending> pending_;       ///< oldest first
  std::string_view first_queued_;     ///< kernel since the last submission
  std::size_t queued_ = 0;            ///< dispatches since then
  std::vector<Event> events_;         ///< to be used again
  std::vector<std::byte> arguments_;  ///< of the kernel being launched
};

}  // namespace
}  // namespace gander::gpu::cuda

namespace gander::gpu {

std::unique_ptr<Device> open_cuda_device(const CudaOptions& options) {
  return std::make_unique<cuda::CudaDevice>(options);
}

bool cuda_compiled_in() {
  return !cuda::kernel_modules().empty();
}

}  // namespace gander::gpu
