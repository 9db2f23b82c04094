#include "backend/gpu/open_device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <optional>
#include <utility>

#include "backend/gpu/cuda/cuda_device.h"
#include "backend/gpu/emulated/emulated_device.h"
#include "backend/gpu/metal/open_metal.h"
#include "backend/gpu/tuning.h"
#include "base/error.h"

namespace gander {

namespace {

// Tokens that matrix products take at once: 1,024 fill the largest GPUs, and their activations are
// a few hundred megabytes.
constexpr std::uint32_t kBatchRows = 1024;

gpu::SyncMode sync_mode(std::string_view name) {
  if (name == "op") return gpu::SyncMode::Op;
  if (name == "layer") return gpu::SyncMode::Layer;
  if (name == "token") return gpu::SyncMode::Token;
  if (name == "async") return gpu::SyncMode::Async;
  fail("a GPU cannot be waited for by \"{}\"; choose op, layer, token or async", name);
}

int ordinal(std::string_view device) {
  int number = 0;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), number);
  if (!device.empty() && (error != std::errc() || end != device.data() + device.size())) {
    fail("--device {}: NVIDIA GPUs are chosen by number, the first is 0", device);
  }
  return number;
}

// What `gander tune` stored; a file that cannot be read is no reason not to run.
std::optional<gpu::LaunchShapes> tuned_shapes(const gpu::DeviceInfo& info, const Weights& weights,
                                              const BackendOptions& options) {
  try {
    return gpu::stored_shapes(gpu::tuning_path(), info, weights);
  } catch (const Error& error) {
    if (options.warn) options.warn(fmt::format("{}; using the default shapes", error.what()));
    return std::nullopt;
  }
}

}  // namespace

std::vector<std::string_view> gpu_backend_names() {
  std::vector<std::string_view> names;
  if (gpu::metal_compiled_in()) names.emplace_back("metal");
  if (gpu::cuda_compiled_in()) names.emplace_back("cuda");
  names.emplace_back("emulated");
  return names;
}

bool gpu_may_be_there(std::string_view name) {
  return name != "cuda" || gpu::cuda::driver_is_installed();
}

std::unique_ptr<gpu::Device> open_device(std::string_view name, const BackendOptions& options) {
  if (name == "auto") name = gpu_backend_names().front();
  if (name == "metal") {
    return gpu::open_metal_device(
        {.device = options.device, .cache_folder = std::nullopt, .capture_path = options.capture});
  }
  if (!options.capture.empty()) fail("only Metal can record a GPU trace: use --backend metal");
  if (name == "cuda") return gpu::open_cuda_device({.ordinal = ordinal(options.device)});
  if (name == "emulated") return gpu::open_emulated_device();
  fail("there is no GPU backend called {}; choose one of {}", name,
       fmt::join(gpu_backend_names(), ", "));
}

std::unique_ptr<gpu::GpuBackend> create_gpu_backend(std::string_view name,
                                                    std::shared_ptr<const Weights> weights,
                                                    const BackendOptions& options) {
  std::unique_ptr<gpu::Device> device = open_device(name, options);
  const std::optional<gpu::LaunchShapes> shapes = tuned_shapes(device->info(), *weights, options);
  const gpu::GpuOptions gpu_options = {.name = std::string(name),
                                       .sync = sync_mode(options.sync),
                                       .unfused = options.unfused,
                                       .persistent = options.token_kernel,
                                       .slots = options.slots,
                                       .batch_rows = kBatchRows,
                                       .half_states = options.half_states,
                                       .shapes = shapes ? &*shapes : nullptr,
                                       .progress = options.progress};
  return std::make_unique<gpu::GpuBackend>(std::move(weights), std::move(device), gpu_options);
}

}  // namespace gander
