#include "apps/gander/gpu_bench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/gander/terminal.h"
#include "backend/gpu/open_device.h"
#include "base/error.h"

namespace gander {

void add_gpu_bench_options(CLI::App& command, GpuBenchOptions& options) {
  add_model_argument(command, options.model);
  command.add_flag("--json", options.json, "print one JSON object");
  command.add_option("--svg", options.svg, "draw it too")->option_text("FILE");
  add_device_options(command, options.model);
}

std::string gpu_backend_name(const GpuBenchOptions& options, std::string_view command) {
  const std::vector<std::string_view> names = gpu_backend_names();
  const std::string& wanted = options.model.backend;
  if (std::ranges::find(names, wanted) != names.end()) return wanted;
  if (wanted == "auto" && names.front() != "emulated") return std::string(names.front());
  const std::string reason = wanted == "auto" ? "this build has none (see docs/cuda.md)"
                                              : fmt::format("{} is none", wanted);
  fail(
      "{} needs a GPU backend, and {}: choose one of {}; the emulation only shows what would be "
      "measured",
      command, reason, fmt::join(names, ", "));
}

std::unique_ptr<gpu::GpuBackend> open_gpu_backend(const Model& model,
                                                  const GpuBenchOptions& options,
                                                  const std::string& backend, bool persistent) {
  Progress progress("loading", 1000);
  BackendOptions backend_options = gander::backend_options(options.model);
  backend_options.token_kernel = persistent;
  backend_options.progress = [&progress](std::uint64_t done, std::uint64_t all) {
    progress.update(done * 1000 / all);
  };
  return create_gpu_backend(backend, model.weights, backend_options);
}

std::string chart_subtitle(const Model& model, std::string_view backend,
                           const gpu::DeviceInfo& device) {
  return chart_subtitle(model, backend) +
         (device.emulated ? ": its times say nothing about a GPU" : "");
}

std::string emulation_note(const gpu::DeviceInfo& info) {
  if (!info.emulated) return "";
  return "note: the emulation runs kernels on the CPU: what it counts is true, its times say "
         "nothing about a GPU\n";
}

}  // namespace gander
