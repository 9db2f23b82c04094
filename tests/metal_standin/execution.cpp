#include "tests/metal_standin/execution.h"

#include "base/error.h"
#include "tests/metal_standin/counting.h"
#include "tests/metal_standin/memory_fault.h"

#include <algorithm>
#include <cstring>

namespace gander::standin {
namespace {

msl::FunctionConstants constants_of(const Function& function) {
  msl::FunctionConstants constants;
  for (const auto& [index, value] : function.constants()) {
    constants.bits[index] = value.bits;
    constants.given |= std::uint64_t{1} << index;
  }
  return constants;
}

std::array<std::uint32_t, 3> extent(Size size) {
  return {static_cast<std::uint32_t>(size.width), static_cast<std::uint32_t>(size.height),
          static_cast<std::uint32_t>(size.depth)};
}

void run(const DispatchCommand& dispatch) {
  const Function& function = dispatch.pipeline->function();
  std::vector<void*> buffers;
  for (std::size_t i = 0; i < function.kernel().buffers; ++i) {
    const Binding& bound = dispatch.bindings[i];
    buffers.push_back(bound.buffer != nullptr ? bound.buffer->data() + bound.offset
                                              : bound.bytes->data());
  }
  msl::Launch launch;
  launch.kernel = &function.kernel();
  launch.buffers = buffers;
  launch.constants = constants_of(function);
  launch.groups = extent(dispatch.groups);
  launch.threads = extent(dispatch.threads);
  launch.group_memory = static_cast<std::uint32_t>(dispatch.group_memory);
  launch.order = msl::Order::Shuffled;
  try {
    const FaultScope scope(function.kernel().name);
    msl::execute(launch);
  } catch (const gander::Error& error) {
    misuse("{}", error.what());
  }
  for (std::size_t i = 0; i < function.kernel().buffers; ++i) {
    if (const Buffer* buffer = dispatch.bindings[i].buffer) {
      buffer->check_surroundings(fmt::format("kernel {}", function.name()));
    }
  }
}

// Memory that a batch may write: of each buffer all that lies behind the smallest offset.
class WrittenMemory {
 public:
  explicit WrittenMemory(const std::vector<DispatchCommand>& batch) {
    for (const DispatchCommand& dispatch : batch) {
      for (std::size_t i = 0; i < dispatch.pipeline->function().kernel().buffers; ++i) {
        const Binding& bound = dispatch.bindings[i];
        if (bound.buffer == nullptr || !dispatch.writes(i)) continue;
        const auto [found, is_new] = begin_.try_emplace(bound.buffer, bound.offset);
        if (!is_new) found->second = std::min(found->second, bound.offset);
      }
    }
  }

  using Copy = std::map<Buffer*, std::vector<std::byte>>;
  Copy save() const {
    Copy copy;
    for (const auto& [buffer, begin] : begin_) {
      copy[buffer].assign(buffer->data() + begin, buffer->data() + buffer->length());
    }
    return copy;
  }
  void restore(const Copy& copy) const {
    for (const auto& [buffer, bytes] : copy) {
      std::memcpy(buffer->data() + begin_.at(buffer), bytes.data(), bytes.size());
    }
  }
  /// Where the memory is not as in the copy: in words, empty when it is the same.
  std::string difference(const Copy& copy) const {
    for (const auto& [buffer, bytes] : copy) {
      const std::byte* now = buffer->data() + begin_.at(buffer);
      const auto [at, other] = std::mismatch(bytes.begin(), bytes.end(), now);
      if (at == bytes.end()) continue;
      return fmt::format("byte {} of the {}",
                         begin_.at(buffer) + static_cast<UInteger>(at - bytes.begin()),
                         buffer->description());
    }
    return {};
  }

 private:
  std::map<Buffer*, UInteger> begin_;
};

}  // namespace

bool DispatchCommand::writes(std::size_t binding) const {
  return (pipeline->function().kernel().written >> binding & 1U) != 0;
}

void run_batch(const std::vector<DispatchCommand>& batch, const std::string& encoder) {
  if (batch.size() == 1) {
    run(batch.front());
    return;
  }
  count(&Counters::reordered_batches);
  const WrittenMemory memory(batch);
  const WrittenMemory::Copy before = memory.save();
  for (const DispatchCommand& dispatch : batch) run(dispatch);
  const WrittenMemory::Copy after = memory.save();
  memory.restore(before);
  std::for_each(batch.rbegin(), batch.rend(), run);
  const std::string difference = memory.difference(after);
  if (difference.empty()) return;
  std::string kernels;
  for (const DispatchCommand& dispatch : batch) {
    kernels += (kernels.empty() ? "" : ", ") + dispatch.pipeline->kernel();
  }
  misuse("encoder '{}': no barrier between {}, and their order matters: {} depends on it", encoder,
         kernels, difference);
}

}  // namespace gander::standin
