#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace gander {

/// Bytes of the largest cache the system reports; 0 when it reports none.
std::uint64_t last_level_cache_bytes();

/// Measures how fast threads read memory together. The buffer has at least 4 times the bytes of the
/// last-level cache, or as much of that as half the available memory holds.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(unsigned threads);

  std::uint64_t buffer_bytes() const { return slice_ * threads_ * sizeof(std::uint64_t); }
  /// Bytes per second of the best of so many passes over the buffer.
  double measure(int passes = 6);

 private:
  unsigned threads_;
  std::size_t slice_;  // numbers of a thread
  std::unique_ptr<std::uint64_t[]> data_;
  bool touched_ = false;
};

}  // namespace gander
