#include "backend/gpu/metal/open_metal.h"

#include <charconv>

#include "backend/gpu/metal/metal_api.h"
#include "backend/gpu/metal/metal_device.h"

namespace gander::gpu::metal {
namespace {

// Not MTLCreateSystemDefaultDevice: that gives nothing to a program which does not link
// CoreGraphics.
Retained<Array> all_gpus() {
  return Retained<Array>(Array{{MTLCopyAllDevices()}});
}

// Sums over a SIMD group, which all kernels use, came with the GPU family of the M1. The virtual
// GPU of a macOS guest lacks them.
bool can_run(MetalGpu gpu) {
  return gpu.supports(GpuFamily::Apple7);
}

std::string names_of(Array gpus) {
  std::string names;
  for (UInteger i = 0; i < gpus.count(); ++i) {
    names += fmt::format("{}{} ({})", i == 0 ? "" : ", ", to_text(gpus.at<MetalGpu>(i).name()), i);
  }
  return names;
}

MetalGpu first_that_can_run(Array gpus) {
  for (UInteger i = 0; i < gpus.count(); ++i) {
    if (const auto gpu = gpus.at<MetalGpu>(i); can_run(gpu)) return gpu;
  }
  fail(
      "no GPU can run gander: Metal needs Apple silicon (M1 or later, not in a virtual machine); "
      "here: {}",
      names_of(gpus));
}

MetalGpu named(Array gpus, const std::string& wanted) {
  UInteger index = 0;
  const auto* const end = wanted.data() + wanted.size();
  const auto [stop, error] = std::from_chars(wanted.data(), end, index);
  const bool is_index = error == std::errc() && stop == end;
  for (UInteger i = 0; i < gpus.count(); ++i) {
    const auto gpu = gpus.at<MetalGpu>(i);
    if (is_index ? i != index : to_text(gpu.name()) != wanted) continue;
    if (can_run(gpu)) return gpu;
    fail(
        "{}: Metal needs Apple silicon (M1 or later, not in a virtual machine): choose another "
        "device or backend",
        to_text(gpu.name()));
  }
  fail("there is no Metal device '{}': give the name or the number of one of these: {}", wanted,
       names_of(gpus));
}

}  // namespace
}  // namespace gander::gpu::metal

namespace gander::gpu {

bool metal_compiled_in() {
  return true;
}

std::vector<std::string> metal_devices() {
  using namespace metal;
  const AutoreleasePool pool;
  const auto gpus = all_gpus();
  std::vector<std::string> names;
  for (UInteger i = 0; i < gpus->count(); ++i) {
    names.push_back(to_text(gpus->at<MetalGpu>(i).name()));
  }
  return names;
}

std::unique_ptr<Device> open_metal_device(const MetalOptions& options) {
  using namespace metal;
  const AutoreleasePool pool;
  const auto gpus = all_gpus();
  if (gpus->count() == 0) fail("Metal has no GPU here: choose another backend");
  const auto gpu =
      options.device.empty() ? first_that_can_run(gpus.get()) : named(gpus.get(), options.device);
  return std::make_unique<MetalDevice>(retain(gpu), options);
}

}  // namespace gander::gpu
