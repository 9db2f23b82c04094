#include "tests/metal_standin/guarded_memory.h"

#include "tests/metal_standin/objc_runtime.h"

#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>

namespace gander::standin {
namespace {

constexpr std::uint64_t kAlignment = 256;
constexpr std::byte kPattern{0xa5};

std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

GuardedMemory::GuardedMemory(std::uint64_t bytes) : bytes_(bytes) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t usable = round_up(round_up(bytes, kAlignment), page);
  mapped_bytes_ = usable + 2 * page;
  void* pages =
      mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) misuse("no memory for a buffer of {} bytes", bytes);
  pages_ = static_cast<std::byte*>(pages);
  mprotect(pages_ + page, usable, PROT_READ | PROT_WRITE);
  std::byte* const end = pages_ + page + usable;
  data_ = end - round_up(bytes, kAlignment);
  std::fill(pages_ + page, data_, kPattern);
  std::fill(data_ + bytes, end, kPattern);
}

GuardedMemory::~GuardedMemory() {
  munmap(pages_, mapped_bytes_);
}

bool GuardedMemory::intact() const {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const auto is_pattern = [](std::byte byte) { return byte == kPattern; };
  return std::all_of(pages_ + page, data_, is_pattern) &&
         std::all_of(data_ + bytes_, pages_ + mapped_bytes_ - page, is_pattern);
}

}  // namespace gander::standin
