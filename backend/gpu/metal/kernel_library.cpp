#include "backend/gpu/metal/kernel_library.h"

#include <xxhash.h>

#include "backend/gpu/kernel_source.h"
#include "backend/gpu/metal/metallib.h"

namespace gander::gpu::metal {
namespace {

// The compiler's first error: it says a line for each, and repeats the source below it.
std::string first_error(NSError error) {
  const std::string text = to_text(send<"localizedDescription", String>(error));
  const auto found = text.find("error:");
  if (found == std::string::npos) return describe(error);
  const auto before = text.rfind('\n', found);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  return text.substr(begin, text.find('\n', found) - begin);
}

// Results come first. The default on Apple silicon, relaxed, lets the compiler reorder sums, so
// that two pipelines of one kernel could differ; and fast exp, tanh and division lose bits. The
// kernels say fma where they mean it, and wait for memory, not for arithmetic.
void make_results_precise(CompileOptions options) {
  if (options.has_math_mode()) {
    options.set_math_mode(MathMode::Safe);
    options.set_math_functions(MathFunctions::Precise);
  } else {
    options.set_fast_math_enabled(false);  // macOS 14's name for both
  }
}

Retained<Library> compile(MetalGpu gpu, CompileOptions options, bool metal_3_2) {
  options.set_language_version(metal_3_2 ? LanguageVersion::Version3_2
                                         : LanguageVersion::Version3_1);
  make_results_precise(options);
  NSError error;
  auto library = gpu.new_library(make_string(std::string(gpu::kernel_source())), options, error);
  if (!library) fail("Metal does not compile the kernels: {}", first_error(error));
  return library;
}

}  // namespace

KernelLibrary open_kernel_library(MetalGpu gpu) {
  const auto options = make_object<CompileOptions>();
  KernelLibrary kernels;
  kernels.metal_3_2 = options->has_math_mode();  // both came with macOS 15
  kernels.functions = built_library(gpu, kernels.metal_3_2);
  if (!kernels.functions) kernels.functions = compile(gpu, options.get(), kernels.metal_3_2);
  kernels.functions->set_label(make_string("gander"));

  const auto source = gpu::kernel_source();
  kernels.hash = XXH3_64bits_withSeed(source.data(), source.size(), kernels.metal_3_2 ? 1 : 0);
  return kernels;
}

Retained<Function> KernelLibrary::function(std::string_view name,
                                           std::span<const FunctionConstant> constants) const {
  const auto values = make_object<FunctionConstantValues>();
  for (const auto& constant : constants) {
    values->set(&constant.bits, constant.is_float ? DataType::Float : DataType::UInt,
                constant.index);
  }
  NSError error;
  auto function = functions->new_function(make_string(std::string(name)), values.get(), error);
  if (!function) fail("kernel {}: Metal does not specialise it: {}", name, describe(error));
  return function;
}

}  // namespace gander::gpu::metal
