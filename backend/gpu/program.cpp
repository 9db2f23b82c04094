#include "backend/gpu/program.h"

#include <algorithm>

namespace gander::gpu {

std::uint64_t Program::bytes_read() const {
  std::uint64_t bytes = 0;
  for (const Dispatch& dispatch : dispatches) bytes += dispatch.bytes_read();
  return bytes;
}

std::uint64_t Program::bytes_written() const {
  std::uint64_t bytes = 0;
  for (const Dispatch& dispatch : dispatches) bytes += dispatch.bytes_written();
  return bytes;
}

std::uint64_t run(Device& device, std::span<const Dispatch> dispatches, SyncMode mode) {
  std::uint64_t number = 0;
  while (!dispatches.empty()) {
    std::size_t count = dispatches.size();
    if (mode == SyncMode::Op) count = 1;
    if (mode == SyncMode::Layer) {
      const auto other = std::ranges::find_if(dispatches, [&](const Dispatch& dispatch) {
        return dispatch.layer != dispatches.front().layer;
      });
      count = static_cast<std::size_t>(other - dispatches.begin());
    }
    number = device.submit(dispatches.first(count));
    if (mode != SyncMode::Async) device.wait(number);
    dispatches = dispatches.subspan(count);
  }
  return number;
}

}  // namespace gander::gpu
