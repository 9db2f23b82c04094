#include "backend/gpu/emulated/fiber.h"

#include "base/error.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers' names
extern "C" {
#if GANDER_ADDRESS_SANITIZER
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, std::size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, std::size_t* bytes);
#endif
#if GANDER_THREAD_SANITIZER
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* token);
void __tsan_release(void* token);
#endif
// Saves the registers that a call preserves and the stack pointer in *save, and goes on with
// `load`.
void gander_msl_switch(void** save, void* load);
}
// NOLINTEND(bugprone-reserved-identifier)

#define GANDER_STRING(x) #x
#define GANDER_SYMBOL(prefix, name) GANDER_STRING(prefix) #name
#define GANDER_ASM_NAME(name) GANDER_EXPAND(GANDER_SYMBOL, __USER_LABEL_PREFIX__, name)
#define GANDER_EXPAND(macro, ...) macro(__VA_ARGS__)
// Other files of the library may call it, its users do not see it.
#ifdef __APPLE__
#define GANDER_HIDE ".private_extern "
#else
#define GANDER_HIDE ".hidden "
#endif

#if defined(__x86_64__)
asm(".text\n.balign 16\n.globl " GANDER_ASM_NAME(gander_msl_switch) "\n" GANDER_HIDE
        GANDER_ASM_NAME(gander_msl_switch) "\n" GANDER_ASM_NAME(gander_msl_switch) R"(:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
)");
#elif defined(__aarch64__)
asm(".text\n.balign 16\n.globl " GANDER_ASM_NAME(gander_msl_switch) "\n" GANDER_HIDE
        GANDER_ASM_NAME(gander_msl_switch) "\n" GANDER_ASM_NAME(gander_msl_switch) R"(:
    stp x19, x20, [sp, #-160]!
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x19, x20, [sp], #160
    ret
)");
#else
#error "the emulated GPU needs gander_msl_switch for this processor"
#endif

namespace gander::msl {
namespace {

constexpr std::size_t kGuardBytes = 16 << 10;  // at least a page anywhere
#if GANDER_ADDRESS_SANITIZER || GANDER_THREAD_SANITIZER
constexpr std::size_t kStackBytes = 256 << 10;
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif

// Stacks that fibers had and others will have: mapping one takes longer than most threads run. Each
// lies above a guard. The thread sanitizer would take two of one stack for a race.
class Stacks {
 public:
  // The guard's first byte. Throws Error.
  std::byte* take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::byte* memory = free_.back();
        free_.pop_back();
        return memory;
      }
    }
    void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED) {
      fail("emulated GPU: no memory for a thread's stack: {}", std::strerror(errno));
    }
    mprotect(memory, kGuardBytes, PROT_NONE);
    return static_cast<std::byte*>(memory);
  }

  void give(std::byte* memory) {
    allow(memory, kGuardBytes + kStackBytes);
    {
      const std::lock_guard lock(mutex_);
      if (free_.size() < kMostFree) {
        free_.push_back(memory);
        return;
      }
    }
    munmap(memory, kGuardBytes + kStackBytes);
  }

 private:
  static constexpr std::size_t kMostFree = GANDER_THREAD_SANITIZER ? 0 : 4096;

  std::mutex mutex_;
  std::vector<std::byte*> free_;
};

Stacks& stacks() {
  static Stacks& all = *new Stacks;  // for ever: fibers of static objects end late
  return all;
}

// The two ends of the switch under way: who has just stopped, and who begins.
thread_local Fiber* previous = nullptr;
thread_local Fiber* current = nullptr;

}  // namespace

Fiber::Fiber(void (*code)(), std::uint32_t colour) : code_(code), stack_bytes_(kStackBytes) {
  memory_ = stacks().take();
  stack_bottom_ = memory_ + kGuardBytes;

  std::byte* top = memory_ + kGuardBytes + kStackBytes - 256 - colour % 32 * 320;
#if defined(__x86_64__)
  // r15 r14 r13 r12 rbx rbp, the address to go on at, and a frame that nothing called.
  auto* frame = reinterpret_cast<void**>(top) - 8;
  frame[6] = reinterpret_cast<void*>(&Fiber::enter);
#else
  auto* frame = reinterpret_cast<void**>(top) - 20;
  frame[11] = reinterpret_cast<void*>(&Fiber::enter);  // x30
#endif
  stack_pointer_ = frame;
#if GANDER_THREAD_SANITIZER
  thread_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
  if (memory_ == nullptr) return;
#if GANDER_THREAD_SANITIZER
  __tsan_destroy_fiber(thread_);
#endif
  stacks().give(memory_);
}

void Fiber::switch_to(Fiber& next) {
  previous = this;
  current = &next;
#if GANDER_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&fake_stack_, next.stack_bottom_, next.stack_bytes_);
#endif
#if GANDER_THREAD_SANITIZER
  if (memory_ == nullptr) thread_ = __tsan_get_current_fiber();
  constexpr unsigned kWithoutOrder = 1;
  __tsan_switch_to_fiber(next.thread_, kWithoutOrder);
#endif
  gander_msl_switch(&stack_pointer_, next.stack_pointer_);
#if GANDER_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fake_stack_, &previous->stack_bottom_, &previous->stack_bytes_);
#endif
}

void Fiber::enter() {
#if GANDER_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &previous->stack_bottom_, &previous->stack_bytes_);
#endif
  current->code_();
}

void Fiber::tell_release([[maybe_unused]] const void* token) {
#if GANDER_THREAD_SANITIZER
  __tsan_release(const_cast<void*>(token));
#endif
}

void Fiber::tell_acquire([[maybe_unused]] const void* token) {
#if GANDER_THREAD_SANITIZER
  __tsan_acquire(const_cast<void*>(token));
#endif
}

}  // namespace gander::msl
