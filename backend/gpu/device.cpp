#include "backend/gpu/device.h"

#include <numeric>

namespace gander::gpu {

std::uint64_t Dispatch::bytes_read() const {
  return std::accumulate(bindings.begin(), bindings.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const Binding& b) { return sum + b.reads; });
}

std::uint64_t Dispatch::bytes_written() const {
  return std::accumulate(bindings.begin(), bindings.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const Binding& b) { return sum + b.writes; });
}

}  // namespace gander::gpu
