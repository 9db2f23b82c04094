#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// What a GPU is to gander: memory, kernels, and lists of dispatches that run in order. Metal, CUDA
// and the emulation each are one Device; everything above this header is the same for all of them.
namespace gander::gpu {

/// Part of a buffer of a Device.
struct View {
  std::uint32_t buffer = 0;  ///< as Device::allocate or wrap numbered it
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  View part(std::uint64_t begin, std::uint64_t length) const {
    return {buffer, offset + begin, length};
  }
};

/// The value of a Metal function constant; `index` is one of kernels/function_constants.h.
struct FunctionConstant {
  std::uint32_t index = 0;
  bool is_float = false;   ///< else an unsigned integer
  std::uint32_t bits = 0;  ///< of the value

  bool operator==(const FunctionConstant&) const = default;
};

/// What a View is bound to a kernel for, with the bytes the dispatch has to move for it when every
/// byte is read or written once: what the accounts of `gander program` add up.
struct Binding {
  View view;
  std::uint64_t reads = 0, writes = 0;
};

/// One launch of a kernel. Bindings are its buffers 0, 1, ...; `parameters`, when not empty, are
/// the bytes of the `constant` buffer that follows them (at most 4 KB: Metal's setBytes).
struct Dispatch {
  std::string_view kernel;     ///< the function's name in kernels/; a string that never ends
  std::uint32_t layer = 0;     ///< config.layers for what belongs to no layer
  std::uint32_t pipeline = 0;  ///< as Device::pipeline numbered it
  std::vector<Binding> bindings;
  std::vector<std::byte> parameters;
  std::array<std::uint32_t, 2> groups = {1, 1};  ///< thread groups, x and y
  std::uint32_t threads = 32;                    ///< of a group; a multiple of 32
  std::uint32_t group_memory = 0;                ///< bytes at [[threadgroup(0)]], a multiple of 16
  bool barrier = true;  ///< waits for everything recorded before; else may overlap it
  /// All groups run at the same time, so that they may wait for each other; at most
  /// DeviceInfo::resident_groups of them.
  bool resident = false;

  std::uint64_t bytes_read() const;
  std::uint64_t bytes_written() const;
};

/// Limits and abilities, read from the device when it is opened.
struct DeviceInfo {
  std::string name;                  ///< for people: "Apple M3 Max"
  bool emulated = false;             ///< it is the CPU: its times say nothing about a GPU
  std::uint32_t max_threads = 1024;  ///< of a group; a pipeline may allow fewer
  std::uint32_t max_group_memory = 32 << 10;
  std::uint64_t max_buffer_bytes = 0;
  std::uint64_t working_set_bytes = 0;  ///< what may be resident; 0: unknown
  std::uint64_t free_bytes = 0;         ///< of it, when the device was opened; 0: unknown
  std::uint32_t cores = 0;              ///< 0: unknown
  bool wraps_memory = false;            ///< wrap() works: weights are used where they are mapped
  std::uint64_t page_bytes = 1;         ///< wrap() takes whole pages of this size
  /// A group may read what another group of the same dispatch wrote, after a fence and an atomic
  /// counter: Metal 3.2 (macOS 15), CUDA. Without it sums over groups take a dispatch of their own.
  bool device_fences = false;
  /// Groups, of any number of threads and with all group memory, that can run at the same time and
  /// wait for each other; 0: none can. Metal promises nothing of the kind.
  std::uint32_t resident_groups = 0;
  /// It has memory of its own, from which it copies while it computes: what ...aside() are for.
  bool transfers_aside = false;
};

/// What a device was asked to do since it was opened.
struct DeviceCounters {
  std::uint64_t submissions = 0;  ///< command buffers committed
  std::uint64_t dispatches = 0;
  std::uint64_t barriers = 0;
  std::uint64_t waits = 0;  ///< times the CPU waited for the device
  double gpu_seconds = 0;   ///< the submissions waited for took on it; 0 where it does not tell
};

struct PipelineInfo {
  std::uint32_t id = 0;
  std::uint32_t max_threads = 1024;  ///< a group of this kernel may have
};

/// A GPU with all buffers and pipelines made on it; they live as long as it does. Used by one
/// thread at a time, but for what is said to be for others. Set-up functions throw Error; submit
/// and wait throw Error only when the device fails (lost, out of memory, timed out), with the
/// kernel's name.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;

  /// A new buffer of zeros, `bytes` > 0. `label` is what profilers show.
  virtual std::uint32_t allocate(std::uint64_t bytes, std::string_view label) = 0;
  /// A read-only buffer over memory that outlives the device, without a copy: whole pages
  /// (info().page_bytes, of address and size). Only when info().wraps_memory.
  virtual std::uint32_t wrap(std::span<const std::byte> pages, std::string_view label) = 0;
  /// Copies bytes in or out. Nothing that uses the view may be running.
  virtual void write(const View& view, std::span<const std::byte> bytes) = 0;
  virtual void read(const View& view, std::span<std::byte> bytes) const = 0;
  /// Writes zeros.
  virtual void clear(const View& view);
  /// Where info().transfers_aside: copies a view into one of the same size, after what was queued
  /// before and before what will be.
  virtual void copy(const View& from, const View& to);
  /// Where info().transfers_aside: read() and write() for other threads, while one uses the device.
  /// Of views that nothing but copy() uses; what it was asked for before has happened then.
  virtual void read_aside(const View& view, std::span<std::byte> bytes) const;
  virtual void write_aside(const View& view, std::span<const std::byte> bytes);
  /// Fills views with what `produce` writes, the bytes of one after those of the other, at most
  /// kFillBytes together. They may still be on their way when it returns; nothing that uses the
  /// views may be running. For loading models: the next bytes are made while these are copied.
  static constexpr std::uint64_t kFillBytes = std::uint64_t{32} << 20;
  using Produce = std::function<void(std::span<std::byte>)>;
  virtual void fill(std::span<const View> views, const Produce& produce);
  /// Waits for what fill() copies, and gives back the memory that it went through.
  virtual void finish_fills();
  /// Bytes of all buffers, wrapped ones too; what the driver reports where it does.
  virtual std::uint64_t allocated_bytes() const = 0;

  /// The kernel `function`, specialised. Equal arguments give the same pipeline.
  virtual PipelineInfo pipeline(std::string_view function,
                                std::span<const FunctionConstant> constants) = 0;

  /// Queues the dispatches as one command buffer; it runs after those queued before. Returns its
  /// number, 1, 2, ... Does not wait. `dispatches` must stay as they are until it has run.
  virtual std::uint64_t submit(std::span<const Dispatch> dispatches) = 0;
  /// Queues dispatches that nobody waits for by themselves. They are the first of the next
  /// submission where that makes kernels follow each other more closely, else one of their own.
  virtual void queue(std::span<const Dispatch> dispatches) { submit(dispatches); }
  /// Returns when submission `number`, and so all before it, has run; at once when one as late was
  /// waited for before, and for 0. Only the others count as waits.
  virtual void wait(std::uint64_t number) = 0;

  const DeviceCounters& counters() const { return counters_; }

 protected:
  /// Throws Error unless they have at most kFillBytes together, which it returns.
  static std::uint64_t fill_bytes(std::span<const View> views);

  DeviceCounters counters_;

 private:
  std::vector<std::byte> filled_;  ///< what fill() passes on to write()
};

}  // namespace gander::gpu
