#pragma once

#include <memory>
#include <utility>

#include "backend/gpu/device.h"
#include "base/error.h"

namespace gander::gpu {

/// Another device, whose next submission fails when it is told so: before anything of it runs.
class FailingDevice final : public Device {
 public:
  explicit FailingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  void fail_next() { fails_ = true; }

  const DeviceInfo& info() const override { return device_->info(); }
  std::uint32_t allocate(std::uint64_t bytes, std::string_view label) override {
    return device_->allocate(bytes, label);
  }
  std::uint32_t wrap(std::span<const std::byte> pages, std::string_view label) override {
    return device_->wrap(pages, label);
  }
  void write(const View& view, std::span<const std::byte> bytes) override {
    device_->write(view, bytes);
  }
  void read(const View& view, std::span<std::byte> bytes) const override {
    device_->read(view, bytes);
  }
  void clear(const View& view) override { device_->clear(view); }
  void copy(const View& from, const View& to) override { device_->copy(from, to); }
  void read_aside(const View& view, std::span<std::byte> bytes) const override {
    device_->read_aside(view, bytes);
  }
  void write_aside(const View& view, std::span<const std::byte> bytes) override {
    device_->write_aside(view, bytes);
  }
  std::uint64_t allocated_bytes() const override { return device_->allocated_bytes(); }
  PipelineInfo pipeline(std::string_view function,
                        std::span<const FunctionConstant> constants) override {
    return device_->pipeline(function, constants);
  }
  std::uint64_t submit(std::span<const Dispatch> dispatches) override {
    if (std::exchange(fails_, false)) fail("the device fails");
    return device_->submit(dispatches);
  }
  void wait(std::uint64_t number) override { device_->wait(number); }

 private:
  const std::unique_ptr<Device> device_;
  bool fails_ = false;
};

}  // namespace gander::gpu
