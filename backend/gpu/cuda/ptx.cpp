#include "backend/gpu/cuda/ptx.h"

#include <algorithm>
#include <charconv>

#include "backend/gpu/cuda/dead_branches.h"
#include "backend/gpu/cuda/ptx_lines.h"
#include "base/error.h"
#include "kernels/function_constants.h"

namespace gander::gpu::cuda {

namespace {

constexpr std::string_view kEntry = ".visible .entry ";

/// The name of the kernel that begins with this line; empty if none does.
std::string_view entry_name(std::string_view line) {
  if (!line.starts_with(kEntry)) return {};
  line.remove_prefix(kEntry.size());
  return line.substr(0, line.find('('));
}

bool has_kernel(std::string_view module, std::string_view name) {
  while (!module.empty()) {
    if (entry_name(take_line(module)) == name) return true;
  }
  return false;
}

/// The module without its other kernels. A function's closing brace is a line of its own.
std::string keep_kernel(std::string_view module, std::string_view name) {
  std::string kept;
  while (!module.empty()) {
    std::string_view line = take_line(module);
    if (const std::string_view other = entry_name(line); !other.empty() && other != name) {
      while (!module.empty() && !line.starts_with('}')) line = take_line(module);
    } else {
      kept += line;
    }
  }
  return kept;
}

std::uint32_t number_at(std::string_view text, std::size_t begin, std::size_t& end) {
  std::uint32_t number = 0;
  const char* last = std::from_chars(text.data() + begin, text.data() + text.size(), number).ptr;
  end = static_cast<std::size_t>(last - text.data());
  return number;
}

/// The module's line ".target sm_N", or ".target sm_Na" for that GPU alone.
struct PtxTarget {
  std::uint32_t capability = 0;  ///< 0 without one
  bool exact = false;

  bool runs_on(std::uint32_t gpu) const { return exact ? capability == gpu : capability <= gpu; }
};

PtxTarget target_of(std::string_view module) {
  constexpr std::string_view kTarget = ".target sm_";
  const std::size_t place = module.find(kTarget);
  if (place == std::string_view::npos) return {};
  std::size_t end = 0;
  const std::uint32_t number = number_at(module, place + kTarget.size(), end);
  return {number, module.substr(end).starts_with('a')};
}

std::uint32_t constant_bits(std::uint32_t index, std::string_view kernel,
                            std::span<const FunctionConstant> constants) {
  for (const FunctionConstant& constant : constants) {
    if (constant.index == index) return constant.bits;
  }
  fail(
      "CUDA: kernel {} uses function constant {}, which its pipeline does not give: give it where "
      "the pipeline is made",
      kernel, index);
}

/// After the kernel's parameters: how many threads a group has, and groups a core, when constants
/// say so. Without them the compiler keeps to the registers that any number of threads could have.
void declare_threads(std::string& ptx, std::span<const FunctionConstant> constants) {
  const auto value_of = [&](std::uint32_t index) {
    const auto found = std::ranges::find(constants, index, &FunctionConstant::index);
    return found == constants.end() ? 0 : found->bits;
  };
  const std::uint32_t threads = value_of(GANDER_KERNEL_THREADS);
  const std::size_t body = ptx.find("\n{", ptx.find(kEntry));
  if (threads == 0 || body == std::string::npos) return;
  ptx.insert(body, fmt::format("\n.maxntid {}, 1, 1\n.minnctapersm {}", threads,
                               std::max(value_of(GANDER_KERNEL_GROUPS), 1U)));
}

constexpr std::uint32_t kStartsEarly = 90;  ///< capability from which kernels wait themselves
constexpr std::string_view kBegin = "gander_begin";

/// Lets the compiler use what GPUs have that start kernels early.
void raise_target(std::string& ptx) {
  const PtxTarget target = target_of(ptx);
  if (target.capability == 0 || target.capability >= kStartsEarly) return;
  const std::string old = fmt::format(".target sm_{}", target.capability);
  ptx.replace(ptx.find(old), old.size(), fmt::format(".target sm_{}", kStartsEarly));
}

/// Puts the wait where the kernel has it: the entry's place is for kernels without one of their
/// own. From then on the next kernel may be started.
void place_wait(std::string& ptx) {
  constexpr std::string_view kWait = "griddepcontrol.wait;\n\tgriddepcontrol.launch_dependents;";
  std::size_t place = ptx.find(kBegin);
  if (ptx.find(kBegin, place + 1) != std::string::npos) ptx.erase(place, kBegin.size());
  while ((place = ptx.find(kBegin, place)) != std::string::npos) {
    ptx.replace(place, kBegin.size(), kWait);
  }
}

/// Puts values in the places of the names that stand for them.
std::string substitute(std::string_view text, std::string_view kernel, std::string_view parameter,
                       std::span<const FunctionConstant> constants) {
  constexpr std::string_view kPlace = "gander_", kConstant = "constant_", kArguments = "arguments",
                             kNoBegin = "begin";
  std::string result;
  result.reserve(text.size());
  for (;;) {
    const std::size_t place = text.find(kPlace);
    result += text.substr(0, place);
    if (place == std::string_view::npos) return result;
    text.remove_prefix(place + kPlace.size());
    if (text.starts_with(kArguments)) {
      result += parameter;
      text.remove_prefix(kArguments.size());
    } else if (text.starts_with(kNoBegin)) {
      text.remove_prefix(kNoBegin.size());
    } else if (text.starts_with(kConstant)) {
      std::size_t end = 0;
      const std::uint32_t index = number_at(text, kConstant.size(), end);
      result += std::to_string(constant_bits(index, kernel, constants));
      text.remove_prefix(end);
    } else {
      result += kPlace;
    }
  }
}

}  // namespace

KernelText specialise(std::span<const std::string_view> modules, std::string_view name,
                      std::span<const FunctionConstant> constants, std::uint32_t capability) {
  std::string_view newest;
  for (const std::string_view module : modules) {
    const PtxTarget target = target_of(module);
    if (!target.runs_on(capability) || !has_kernel(module, name)) continue;
    if (newest.empty() || target.capability > target_of(newest).capability) newest = module;
  }
  if (newest.empty()) {
    if (modules.empty()) {
      fail("CUDA: built without kernels: configure with -DGANDER_CUDA_KERNELS=ON (needs clang 19)");
    }
    fail("CUDA: there is no kernel named {}: see kernels/README.md", name);
  }
  const std::string parameter = fmt::format("{}_param_0", name);
  std::string kernel = keep_kernel(newest, name);
  KernelText text;
  if (capability >= kStartsEarly && kernel.find(kBegin) != std::string::npos) {
    raise_target(kernel);
    place_wait(kernel);
    text.waits_itself = true;
  }
  text.ptx = without_dead_branches(substitute(kernel, name, parameter, constants));
  declare_threads(text.ptx, constants);
  // .param .align 8 .b8 NAME_param_0[BYTES]
  const std::string array = parameter + "[";
  const std::size_t place = text.ptx.find(array);
  std::size_t end = 0;
  if (place != std::string::npos) {
    text.argument_bytes = number_at(text.ptx, place + array.size(), end);
  }
  return text;
}

}  // namespace gander::gpu::cuda
