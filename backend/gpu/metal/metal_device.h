#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/metal/capture.h"
#include "backend/gpu/metal/completions.h"
#include "backend/gpu/metal/kernel_library.h"
#include "backend/gpu/metal/metal_api.h"
#include "backend/gpu/metal/open_metal.h"
#include "backend/gpu/metal/pipeline_archive.h"

namespace gander::gpu::metal {

/// Device on Metal. A submission is one command buffer with one concurrent compute encoder.
class MetalDevice final : public Device {
 public:
  MetalDevice(Retained<MetalGpu> gpu, const MetalOptions& options);
  /// Waits for what was submitted.
  ~MetalDevice() override;

  const DeviceInfo& info() const override { return info_; }
  std::uint32_t allocate(std::uint64_t bytes, std::string_view label) override;
  std::uint32_t wrap(std::span<const std::byte> pages, std::string_view label) override;
  void write(const View& view, std::span<const std::byte> bytes) override;
  void read(const View& view, std::span<std::byte> bytes) const override;
  std::uint64_t allocated_bytes() const override;
  PipelineInfo pipeline(std::string_view function,
                        std::span<const FunctionConstant> constants) override;
  std::uint64_t submit(std::span<const Dispatch> dispatches) override;
  void wait(std::uint64_t number) override;

 private:
  /// A pipeline that was made, and for what.
  struct Specialisation {
    std::string function;
    std::vector<FunctionConstant> constants;
    PipelineInfo info;
  };

  void make_queue();
  std::uint32_t add_buffer(Retained<Buffer> buffer, bool writable, std::uint64_t bytes,
                           std::string_view label);
  std::byte* memory_of(const View& view, std::size_t size) const;
  void encode(CommandBuffer command_buffer, std::span<const Dispatch> dispatches);

  Retained<MetalGpu> gpu_;
  DeviceInfo info_;
  KernelLibrary kernels_;
  PipelineArchive archive_;
  Retained<CommandQueue> queue_;
  Retained<CommandBufferDescriptor> command_buffer_descriptor_;
  Retained<Fence> fence_;
  Retained<ResidencySet> residency_;
  bool residency_changed_ = false;
  Retained<String> label_;
  std::vector<Retained<Buffer>> buffers_;
  std::vector<bool> writable_;
  std::vector<Retained<PipelineState>> pipelines_;
  std::vector<Specialisation> specialisations_;
  Capture capture_;
  std::shared_ptr<Completions> completions_ = std::make_shared<Completions>();
  Block<CompletionHandler> completion_block_{CompletionHandler{completions_}};
  std::uint64_t waited_for_ = 0;
};

}  // namespace gander::gpu::metal
