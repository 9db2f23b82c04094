#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "backend/gpu/device.h"

namespace gander::gpu {

/// A device that holds nothing and runs nothing: it numbers buffers and adds up their bytes, so
/// that a model's memory can be planned and its program recorded and counted without loading it.
class RecordingDevice final : public Device {
 public:
  explicit RecordingDevice(DeviceInfo info) : info_(std::move(info)) {}

  const DeviceInfo& info() const override { return info_; }
  std::uint32_t allocate(std::uint64_t bytes, std::string_view label) override;
  std::uint32_t wrap(std::span<const std::byte> pages, std::string_view label) override;
  void write(const View& view, std::span<const std::byte> bytes) override;
  void read(const View& view, std::span<std::byte> bytes) const override;
  /// Nothing is produced.
  void fill(std::span<const View> views, const Produce& produce) override;
  std::uint64_t allocated_bytes() const override { return allocated_ + wrapped_; }
  PipelineInfo pipeline(std::string_view function,
                        std::span<const FunctionConstant> constants) override;
  /// Counts the dispatches and barriers.
  std::uint64_t submit(std::span<const Dispatch> dispatches) override;
  void wait(std::uint64_t number) override;

  std::uint64_t wrapped_bytes() const { return wrapped_; }
  /// Names of the kernels asked for.
  const std::set<std::string, std::less<>>& kernels() const { return kernels_; }

 private:
  DeviceInfo info_;
  std::uint32_t buffers_ = 0;
  std::uint64_t allocated_ = 0, wrapped_ = 0, waited_ = 0;
  std::set<std::string, std::less<>> kernels_;
};

/// What Apple promises of every GPU since the M1 (family Apple7) under macOS 15: the device that
/// programs are recorded for where there is none.
DeviceInfo apple_gpu();

}  // namespace gander::gpu
