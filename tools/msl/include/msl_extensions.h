// What NVIDIA's GPUs can do and Metal cannot, for kernels in kernels/persistent only.
#pragma once

#if MSL_CPU
#include "backend/gpu/emulated/copies.h"
#endif

namespace metal {

#if MSL_CPU

// Returns when all threads of all blocks wait here. Needs a launch whose blocks all run at once.
inline void meet_blocks(uint*, uint, MSL_SITE_) {
  msl::wait_for_grid(site_);
}
// The block comes to no more meetings of this launch.
inline void leave_blocks(uint*, uint) {}

// Begins to copy 16 bytes to thread-group memory. Copies begun since the last commit are a group.
inline void copy_async(void* to, const void* from) {
  msl::begin_copy(to, from);
}
inline void commit_copies() {
  msl::commit_copies();
}
// Returns when the thread's copies are done, all but those of the last `groups`, which is function
// constant `Index`.
template <int Index>
void wait_for_copies_but(uint groups) {
  msl::wait_for_copies_but(groups);
}

// sum + the products of the four signed bytes of a and b.
inline int dot4(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
  return sum;
}

// Adds to memory that other blocks add to at the same time.
inline void add_in_any_order(long* to, long value) {
  *to += value;
}

// Bytes that the block will read: begins to bring them near. Thread `index` does its part.
inline void expect(const void*, uint, uint) {}

inline ulong nanoseconds() {
  return 0;
}

#else

MSL_FUNCTION void meet_blocks(uint* arrived, uint expected) {
  __syncthreads();
  if (__nvvm_read_ptx_sreg_tid_x() == 0) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"((MSL_GLOBAL uint*)arrived)
                 : "memory");
    uint seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                   : "=r"(seen)
                   : "l"((MSL_GLOBAL uint*)arrived)
                   : "memory");
    } while (seen < expected);
  }
  __syncthreads();
}
// The last block to leave makes the counters ready for the next launch.
MSL_FUNCTION void leave_blocks(uint* arrived, uint blocks) {
  if (__nvvm_read_ptx_sreg_tid_x() != 0) return;
  uint left;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], 1;"
               : "=r"(left)
               : "l"((MSL_GLOBAL uint*)arrived + 1)
               : "memory");
  if (left + 1 == blocks) {
    arrived[0] = 0;
    arrived[1] = 0;
  }
}

MSL_FUNCTION void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(
                   uint((ulong)(MSL_SHARED void*)to)),
               "l"((const MSL_GLOBAL void*)from)
               : "memory");
}
MSL_FUNCTION void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int Index>
MSL_FUNCTION void wait_for_copies_but(uint) {
  asm volatile("cp.async.wait_group gander_constant_%c0;" ::"n"(Index) : "memory");
}

MSL_FUNCTION int dot4(int a, int b, int sum) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

MSL_FUNCTION void add_in_any_order(long* to, long value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"((MSL_GLOBAL long*)to), "l"(value)
               : "memory");
}

MSL_FUNCTION void expect(const void* from, uint bytes, uint index) {
  for (uint i = index * 128; i < bytes; i += __nvvm_read_ptx_sreg_ntid_x() * 128) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"((const MSL_GLOBAL char*)from + i));
  }
}

MSL_FUNCTION ulong nanoseconds() {
  ulong now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

#endif

}  // namespace metal
