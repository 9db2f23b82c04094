#include "bench/process_memory.h"

#include <fstream>
#include <string>

namespace gander {

std::uint64_t memory_status(std::string_view entry) {
  std::ifstream file("/proc/self/status");
  std::string key, rest;
  for (std::uint64_t kilobytes = 0; file >> key; std::getline(file, rest)) {
    if (key.ends_with(':') && key.substr(0, key.size() - 1) == entry && file >> kilobytes) {
      return kilobytes * 1024;
    }
  }
  return 0;
}

bool forget_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return static_cast<bool>(file);
}

}  // namespace gander
