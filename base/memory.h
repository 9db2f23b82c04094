#pragma once

#include <cstdint>
#include <string>

namespace gander {

/// Bytes of memory this process can still use: what the system says is available, bounded by the
/// control group's limit on Linux. 0 when it cannot be found out.
std::uint64_t available_memory();

/// "1.7 GB", "512 KB": decimal units, for people.
std::string bytes_text(std::uint64_t bytes);

}  // namespace gander
