#pragma once

#include <cstdint>

namespace gander {

/// Bytes of the largest cache the system reports; 0 when it reports none.
std::uint64_t last_level_cache_bytes();

struct Bandwidth {
  double bytes_per_second = 0;
  std::uint64_t buffer_bytes = 0;  ///< what was read: at least 4 times the last-level cache, or as
                                   ///< much of that as half the available memory holds
};

/// How fast `threads` threads read memory together: the best of several passes.
Bandwidth measure_read_bandwidth(unsigned threads);

}  // namespace gander
