#pragma once

#include "backend/gpu/emulated/sanitizers.h"

#include <cstddef>
#include <cstdint>

// Stacks that take turns on one CPU thread. A switch costs some ten instructions; address and
// thread sanitizers are told of it.
namespace gander::msl {

/// A stack and where its code stopped. The default one stands for the CPU thread's own stack.
class Fiber {
 public:
  Fiber() = default;
  /// Will run `code`, which must never return. `colour` shifts the stack's top, so that the hot
  /// ends of many stacks do not fall into the same lines of the cache. Throws Error.
  Fiber(void (*code)(), std::uint32_t colour);
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  /// Goes on with `next`; returns when somebody goes on with this one. This must be what runs.
  void switch_to(Fiber& next);

  /// Whether a thread sanitizer watches: to it, every fiber is a thread, which begins after what
  /// its maker did before, and is ordered with others by tokens only.
  static constexpr bool kWatched = GANDER_THREAD_SANITIZER;
  /// What came before a release of a token comes before what follows an acquire.
  static void release(const void* token) {
    if (kWatched) tell_release(token);
  }
  static void acquire(const void* token) {
    if (kWatched) tell_acquire(token);
  }

 private:
  static void enter();
  static void tell_release(const void* token);
  static void tell_acquire(const void* token);

  void (*code_)() = nullptr;
  void* stack_pointer_ = nullptr;
  std::byte* memory_ = nullptr;  // a guard page, and the stack above it
  // What the sanitizers keep for a stack.
  [[maybe_unused]] void* fake_stack_ = nullptr;
  [[maybe_unused]] const void* stack_bottom_ = nullptr;
  [[maybe_unused]] std::size_t stack_bytes_ = 0;
  [[maybe_unused]] void* thread_ = nullptr;
};

}  // namespace gander::msl
