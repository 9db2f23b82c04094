#include "base/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>

#ifdef __APPLE__
#include <mach/mach.h>
#endif

namespace gander {

#ifdef __APPLE__

std::uint64_t available_memory() {
  vm_statistics64_data_t statistics{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64,
                        reinterpret_cast<host_info64_t>(&statistics), &count) != KERN_SUCCESS) {
    return 0;
  }
  const std::uint64_t pages =
      std::uint64_t{statistics.free_count} + statistics.inactive_count + statistics.purgeable_count;
  return pages * vm_page_size;
}

#else

namespace {

// The number in a one-line file such as those of a control group; `fallback` for "max" or no file.
std::uint64_t number_in(const char* path, std::uint64_t fallback) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  return file >> value ? value : fallback;
}

// What a control group leaves of its limit. Page cache counts as used there but can be dropped, so
// only the anonymous part of the usage is held against the limit.
std::uint64_t control_group_room() {
  constexpr auto kUnlimited = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t limit = number_in("/sys/fs/cgroup/memory.max", kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  std::uint64_t anonymous = 0;
  std::ifstream statistics("/sys/fs/cgroup/memory.stat");
  for (std::string key; statistics >> key >> anonymous;) {
    if (key == "anon") return limit - std::min(limit, anonymous);
  }
  return limit;
}

}  // namespace

std::uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::uint64_t kilobytes = 0;
  std::string unit;
  for (std::string key; file >> key >> kilobytes; std::getline(file, unit)) {
    if (key == "MemAvailable:") return std::min(kilobytes * 1024, control_group_room());
  }
  return 0;
}

#endif

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  constexpr std::array<std::string_view, 5> kUnits = {"KB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return value < 10 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                    : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

}  // namespace gander
