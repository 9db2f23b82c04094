#pragma once

#include <cstddef>

// Which sanitizers the compiler builds for. CMake gives GANDER_THREAD_SANITIZER to files that are
// built without it on purpose.
#if defined(__SANITIZE_ADDRESS__)
#define GANDER_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#define GANDER_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#else
#define GANDER_ADDRESS_SANITIZER 0
#endif
#if !defined(GANDER_THREAD_SANITIZER)
#if defined(__SANITIZE_THREAD__)
#define GANDER_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define GANDER_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define GANDER_THREAD_SANITIZER 0
#endif
#endif

#if GANDER_ADDRESS_SANITIZER
// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizer's names
extern "C" {
void __asan_poison_memory_region(const volatile void* begin, std::size_t bytes);
void __asan_unpoison_memory_region(const volatile void* begin, std::size_t bytes);
}
// NOLINTEND(bugprone-reserved-identifier)
#endif

namespace gander::msl {

/// Until allow(), the address sanitizer reports accesses to the bytes.
inline void forbid([[maybe_unused]] const void* begin, [[maybe_unused]] std::size_t bytes) {
#if GANDER_ADDRESS_SANITIZER
  __asan_poison_memory_region(begin, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* begin, [[maybe_unused]] std::size_t bytes) {
#if GANDER_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(begin, bytes);
#endif
}

}  // namespace gander::msl
