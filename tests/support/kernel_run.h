#pragma once

#include "backend/gpu/device.h"

#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace gander::gpu {

/// Runs one kernel with vectors as its buffers, numbered in the order of the calls:
///
///   KernelRun run(device, "time_mix_out");
///   run.constant(GANDER_WIDTH, 64U);
///   run.in(std::span(gated));
///   run.in_out(x);
///   run.parameters(RowsParameters{4, GANDER_F32});
///   run.launch({16, 1}, 128);
///
/// Every buffer is exactly as large as its data, so that an address sanitizer sees overruns on the
/// emulated GPU. Vectors must live until launch, which may be called again.
class KernelRun {
 public:
  /// `kernel` must never end.
  KernelRun(Device& device, std::string_view kernel);

  void constant(std::uint32_t index, std::uint32_t value);
  void constant(std::uint32_t index, float value);

  template <class T>
  void in(std::span<const T> data) {
    add(std::as_bytes(data), {});
  }
  template <class T>
  void in(const std::vector<T>& data) {
    in(std::span<const T>(data));
  }
  /// Full of NaNs before, read back after the launch.
  template <class T>
  void out(std::vector<T>& data) {
    add({}, std::as_writable_bytes(std::span(data)));
  }
  template <class T>
  void in_out(std::vector<T>& data) {
    add(std::as_bytes(std::span(data)), std::as_writable_bytes(std::span(data)));
  }
  /// The parameter struct, after all buffers.
  template <class T>
  void parameters(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    set_parameters(std::as_bytes(std::span(&value, 1)));
  }

  /// `groups` in x and y, of `threads` each, or as many as the pipeline allows, with `group_memory`
  /// bytes at [[threadgroup(0)]].
  void launch(std::array<std::uint32_t, 2> groups, std::uint32_t threads,
              std::uint32_t group_memory = 0);

 private:
  struct Buffer {
    View view;
    std::span<const std::byte> before;  // empty: poisoned
    std::span<std::byte> after;         // empty: not read back
  };
  void add(std::span<const std::byte> before, std::span<std::byte> after);
  void set_parameters(std::span<const std::byte> bytes);

  Device& device_;
  std::string_view kernel_;
  std::vector<FunctionConstant> constants_;
  std::vector<Buffer> buffers_;
  std::vector<std::byte> parameters_;
};

}  // namespace gander::gpu
