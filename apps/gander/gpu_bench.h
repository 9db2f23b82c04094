#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "apps/gander/options.h"
#include "apps/gander/svg_file.h"
#include "backend/gpu/gpu_backend.h"

namespace gander {

/// What `gander bench sync` and `gander bench roofline` share.
struct GpuBenchOptions {
  ModelOptions model;
  std::string svg;  ///< a file for the plot; empty: none
  bool json = false;
};

/// MODEL, --backend, --device, --json and --svg.
void add_gpu_bench_options(CLI::App& command, GpuBenchOptions& options);

/// The GPU backend that --backend means, "auto" being the build's first. Throws Error, in the name
/// of `command`, when it means none.
std::string gpu_backend_name(const GpuBenchOptions& options, std::string_view command);

/// Loads the model on it, stage by stage or, where the device can, with the token kernel.
std::unique_ptr<gpu::GpuBackend> open_gpu_backend(const Model& model,
                                                  const GpuBenchOptions& options,
                                                  const std::string& backend, bool persistent);

/// What a plot of results says they are of.
std::string chart_subtitle(const Model& model, std::string_view backend,
                           const gpu::DeviceInfo& device);

/// What is printed below results of a device that is no GPU; empty for GPUs.
std::string emulation_note(const gpu::DeviceInfo& info);

}  // namespace gander
