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

// Copies of pieces of memory to thread-group memory, which run on while the SIMD group that began
// them does other things. A piece has a place, and a `done` word in thread-group memory for it that
// prepare_piece sets up once; a barrier comes between. Pieces are waited for in the order in which
// they were begun.
inline void prepare_piece(ulong*) {}
// `bytes` is a multiple of 16; 0 where there is nothing left to copy. All lanes call it.
inline void begin_piece(void* to, const void* from, uint bytes, ulong*, uint lane) {
  for (uint i = 16 * lane; i < bytes; i += 512) {
    msl::begin_copy((char*)to + i, (const char*)from + i);
  }
  msl::commit_copies();
}
// Waits for the oldest piece. `ahead`, function constant `Index`, is how many were begun after it;
// `turn` counts how often its place was used before.
template <int Index>
void wait_for_piece(ulong*, uint /*turn*/, uint ahead, MSL_SITE_) {
  msl::wait_for_copies_but(ahead);
  simdgroup_barrier(mem_flags::mem_threadgroup, site_);
}

// sum + the products of the four signed bytes of a and b.
inline int dot4(int a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += (signed char)(a >> 8 * i) * (signed char)(b >> 8 * i);
  return sum;
}

// The same for unsigned bytes of a.
inline int dot4_unsigned(uint a, int b, int sum) {
  for (int i = 0; i < 4; ++i) sum += (unsigned char)(a >> 8 * i) * (signed char)(b >> 8 * i);
  return sum;
}

// Adds to memory that other blocks add to at the same time.
inline void add_in_any_order(long* to, long value) {
  *to += value;
}

// The same number, of which a compiler knows nothing: what is computed from it is computed here
// again, and not kept in registers from before.
inline uint fresh(uint x) {
  return x;
}

// 1 / x to a few units in the last place.
inline float reciprocal(float x) {
  return 1.0f / x;
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

MSL_FUNCTION uint shared_address(const void* pointer) {
  return uint((ulong)(const MSL_SHARED void*)pointer);
}

#if MSL_BULK_COPIES  // sm_90: one thread tells the copy engine, and an mbarrier counts bytes

MSL_FUNCTION void prepare_piece(ulong* done) {
  asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(done)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
MSL_FUNCTION void begin_piece(void* to, const void* from, uint bytes, ulong* done, uint lane) {
  if (lane != 0 || bytes == 0) return;
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(done)),
               "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"((const MSL_GLOBAL void*)from), "r"(bytes), "r"(shared_address(done))
      : "memory");
}
template <int Index>
MSL_FUNCTION void wait_for_piece(ulong* done, uint turn, uint) {
  uint arrived;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(arrived)
        : "r"(shared_address(done)), "r"(turn & 1)
        : "memory");
  } while (arrived == 0);
}

#else

MSL_FUNCTION void prepare_piece(ulong*) {}
MSL_FUNCTION void begin_piece(void* to, const void* from, uint bytes, ulong*, uint lane) {
  for (uint i = 16 * lane; i < bytes; i += 512) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address(to) + i),
                 "l"((const MSL_GLOBAL char*)from + i)
                 : "memory");
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int Index>
MSL_FUNCTION void wait_for_piece(ulong*, uint, uint) {
  asm volatile("cp.async.wait_group gander_constant_%c0;" ::"n"(Index) : "memory");
  __nvvm_bar_warp_sync(~0u);
}

#endif

MSL_FUNCTION int dot4(int a, int b, int sum) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

MSL_FUNCTION int dot4_unsigned(uint a, int b, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

MSL_FUNCTION void add_in_any_order(long* to, long value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"((MSL_GLOBAL long*)to), "l"(value)
               : "memory");
}

MSL_FUNCTION uint fresh(uint x) {
  uint same;
  asm volatile("mov.b32 %0, %1;" : "=r"(same) : "r"(x));
  return same;
}

MSL_FUNCTION float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
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
