#pragma once

#include <cstdint>
#include <string_view>

// What Linux says about this process's memory in /proc/self/status.
namespace gander {

/// Bytes of an entry: "VmHWM", the most that was resident at a time; "RssAnon", what is resident
/// and belongs to no file; "RssFile", what does. 0 where there is no such entry.
std::uint64_t memory_status(std::string_view entry);

/// Makes what is resident now the most there was. False when the system does not allow it.
bool forget_peak_memory();

}  // namespace gander
