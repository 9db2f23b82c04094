#include "base/zeroed_allocator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace gander {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;

// With room to begin at a large page; the address of all of it is kept behind the memory.
std::size_t mapped_bytes(std::size_t bytes) {
  return bytes + sizeof(void*) + kLargePage;
}

}  // namespace

void* allocate_zeros(std::size_t bytes) {
  if (bytes < kLargePage) {
    void* const memory = std::calloc(1, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  void* const mapped = mmap(nullptr, mapped_bytes(bytes), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  void* memory = mapped;
  std::size_t space = mapped_bytes(bytes);
  memory = std::align(kLargePage, bytes + sizeof(void*), memory, space);
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  std::memcpy(static_cast<std::byte*>(memory) + bytes, &mapped, sizeof mapped);
  return memory;
}

void free_zeros(void* memory, std::size_t bytes) noexcept {
  if (bytes < kLargePage) return std::free(memory);
  void* mapped = nullptr;
  std::memcpy(&mapped, static_cast<std::byte*>(memory) + bytes, sizeof mapped);
  munmap(mapped, mapped_bytes(bytes));
}

}  // namespace gander
