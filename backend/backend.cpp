#include "backend/backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/gpu/open_device.h"
#include "backend/reference/reference_backend.h"
#include "backend/self_test.h"
#include "base/error.h"

namespace gander {

namespace {

std::unique_ptr<Backend> create_cpu_backend(std::shared_ptr<const Weights> weights,
                                            const BackendOptions& options) {
  if (options.half_states) fail("16-bit states are for GPUs: leave out --state-type f16");
  // More threads than cores would only take turns.
  const unsigned cores = usable_cores();
  const unsigned threads = options.threads == 0 ? cores : std::min(options.threads, cores);
  return std::make_unique<CpuBackend>(std::move(weights), threads, best_kernels(), options.slots);
}

// The emulation is what tests hold against the reference.
std::unique_ptr<Backend> create_tested_gpu(std::string_view name,
                                           const std::shared_ptr<const Weights>& weights,
                                           const BackendOptions& options) {
  if (!options.self_test || name == "emulated") return create_gpu_backend(name, weights, options);
  return open_tested(name, weights, [&](std::shared_ptr<const Weights> some) {
    BackendOptions own = options;
    if (some != weights) {
      own.progress = nullptr;   // it is shown for the whole model
      own.half_states = false;  // what they cost is more than is allowed
    }
    return create_gpu_backend(name, std::move(some), own);
  });
}

std::unique_ptr<Backend> create_best_backend(const std::shared_ptr<const Weights>& weights,
                                             const BackendOptions& options) {
  const auto cpu = [&] { return create_cpu_backend(weights, options); };
  const std::string_view name = gpu_backend_names().front();
  if (name == "emulated" && gpu_may_be_there("cuda") && options.warn) {
    options.warn("cuda is not used: gander was built without kernels for it: see docs/cuda.md");
  }
  if (name == "emulated" || !gpu_may_be_there(name)) return cpu();
  return open_or_other(
      name, [&] { return create_tested_gpu(name, weights, options); }, cpu, options.warn);
}

}  // namespace

std::vector<std::string_view> backend_names() {
  std::vector<std::string_view> names = {"auto"};
  for (const std::string_view name : gpu_backend_names()) names.push_back(name);
  names.insert(names.end() - 1, "cpu");  // the emulation is for tests
  names.emplace_back("reference");
  return names;
}

std::unique_ptr<Backend> create_backend(std::string_view name,
                                        std::shared_ptr<const Weights> weights,
                                        const BackendOptions& options) {
  if (name == "auto") return create_best_backend(weights, options);
  if (name == "cpu") return create_cpu_backend(std::move(weights), options);
  if (name == "reference") {
    if (options.half_states) fail("16-bit states are for GPUs: leave out --state-type f16");
    return std::make_unique<ReferenceBackend>(std::move(weights), options.slots);
  }
  if (name == "metal" || name == "cuda" || name == "emulated") {
    return create_tested_gpu(name, weights, options);
  }
  fail("there is no backend called {}; choose one of {}", name, fmt::join(backend_names(), ", "));
}

void step_by_sequence(
    std::span<const SequenceStep> steps, std::uint32_t vocab_size, std::span<float> logits,
    std::span<TokenId> best,
    const std::function<void(const SequenceStep& step, std::span<float> logits)>& forward) {
  std::vector<float> own;
  for (const SequenceStep& step : steps) {
    std::size_t rows = 0;
    if (step.which == Logits::Last) rows = 1;
    if (step.which == Logits::All) rows = step.tokens.size();
    if (logits.empty()) own.resize(rows * vocab_size);
    const std::span<float> all = logits.empty() ? std::span(own) : logits.first(rows * vocab_size);
    if (!logits.empty()) logits = logits.subspan(all.size());
    forward(step, all);
    if (best.empty()) continue;
    for (std::size_t row = 0; row < rows; ++row) {
      const auto of_row = all.subspan(row * vocab_size, vocab_size);
      best[row] = static_cast<TokenId>(std::ranges::max_element(of_row) - of_row.begin());
    }
    best = best.subspan(rows);
  }
}

}  // namespace gander
