#include "backend/backend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "backend/reference/reference_backend.h"
#include "base/error.h"

namespace gander {

std::vector<std::string_view> backend_names() {
  return {"auto", "cpu", "reference"};
}

std::unique_ptr<Backend> create_backend(std::string_view name,
                                        std::shared_ptr<const Weights> weights,
                                        const BackendOptions& options) {
  if (name == "auto" || name == "cpu") {
    // More threads than cores would only take turns.
    const unsigned cores = usable_cores();
    const unsigned threads = options.threads == 0 ? cores : std::min(options.threads, cores);
    return std::make_unique<CpuBackend>(std::move(weights), threads);
  }
  if (name == "reference") return std::make_unique<ReferenceBackend>(std::move(weights));
  fail("there is no backend called {}; choose one of {}", name, fmt::join(backend_names(), ", "));
}

}  // namespace gander
