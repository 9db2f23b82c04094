#pragma once

#include <cstddef>
#include <cstdint>

namespace gander::standin {

/// Zeroed memory between two pages that may not be touched: a kernel that reads or writes past it
/// is stopped at the access. The few bytes between its end and the page behind hold a pattern.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::uint64_t bytes);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  /// Aligned to 256 bytes, as much as Metal's buffers at least are.
  std::byte* data() const { return data_; }
  /// Whether nothing was written right before or behind the data.
  bool intact() const;

 private:
  std::byte* pages_ = nullptr;  ///< the guard page in front
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0, mapped_bytes_ = 0;
};

}  // namespace gander::standin
