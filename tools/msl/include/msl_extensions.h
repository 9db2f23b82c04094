// What NVIDIA's GPUs can do and Metal cannot, for kernels that Apple's compiler does not see.
#pragma once

#if MSL_CPU
#include "backend/gpu/emulated/copies.h"
#endif

namespace metal {

#if MSL_CPU

// Memory that other blocks read and write at the same time. Nothing is said about the order in
// which they see different words. A vector's words may be of different times.
inline uint load_now(const uint* from) {
  return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}
inline uint4 load_now(const uint4* from) {
  const uint* words = (const uint*)from;
  return uint4(load_now(words), load_now(words + 1), load_now(words + 2), load_now(words + 3));
}
inline void store_now(uint* to, uint value) {
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}
inline uint add_now(uint* to, uint value) {
  return __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL);
}

// Ends a loop that waits for other blocks: whether any lane of the SIMD group still `waits`. Needs
// a launch whose blocks all run at once.
inline bool try_again(bool waits, MSL_SITE_) {
  if (!simd_any(waits, site_)) return false;
  msl::wait_for_others(site_);
  return true;
}

// Copies of pieces of memory to thread-group memory, which run on while the SIMD group that began
// them does other things. A piece has a place, and a `done` word in thread-group memory for it that
// prepare_piece sets up once; a barrier comes between. Pieces are waited for in the order in which
// they were begun, and a place gets the next one after that.
inline void prepare_piece(ulong*) {}
// `bytes` is a multiple of 16; 0 where there is nothing left to copy. All lanes call it.
inline void begin_piece(void* to, const void* from, uint bytes, ulong*, uint lane) {
  for (uint i = 16 * lane; i < bytes; i += 512) {
    msl::begin_copy((char*)to + i, (const char*)from + i);
  }
  msl::commit_copies();
}
// Waits for the oldest piece. `turn` counts how often its place was used before.
inline void wait_for_piece(ulong*, uint /*turn*/, MSL_SITE_) {
  msl::wait_for_oldest_copies();
  simdgroup_barrier(mem_flags::mem_threadgroup, site_);
}

// sums + a b for a 16 x 32 matrix `a` and a 32 x 8 matrix `b` of bytes, which the lanes of a SIMD
// group share. Lane 4 g + t has of `a`: x row g, y row g + 8, both columns 4 t to 4 t + 3, z and w
// the same 16 columns later; of `b` column g: x rows 4 t to 4 t + 3, y rows 16 later; of the sums
// columns 2 t and 2 t + 1: xy row g, zw row g + 8.
template <class Byte>
int4 multiply_bytes_(uint4 a, uint2 b, int4 sums, msl::Site site) {
  const uint g = lane_() / 4, t = lane_() % 4;
  const msl::Exchanged<uint4> all_rows = msl::exchange(a, site);
  uint4 rows[4];
  for (uint k = 0; k < 4; ++k) rows[k] = all_rows.of(4 * g + k);
  const msl::Exchanged<uint2> columns = msl::exchange(b, site);
  const auto products = [](uint x, uint y) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) sum += Byte(x >> 8 * i) * (signed char)(y >> 8 * i);
    return sum;
  };
  for (uint k = 0; k < 4; ++k) {
    const uint2 first = columns.of(8 * t + k), second = columns.of(8 * t + 4 + k);
    sums.x += products(rows[k].x, first.x) + products(rows[k].z, first.y);
    sums.y += products(rows[k].x, second.x) + products(rows[k].z, second.y);
    sums.z += products(rows[k].y, first.x) + products(rows[k].w, first.y);
    sums.w += products(rows[k].y, second.x) + products(rows[k].w, second.y);
  }
  return sums;
}
inline int4 multiply_signed_bytes(uint4 a, uint2 b, int4 sums, MSL_SITE_) {
  return multiply_bytes_<signed char>(a, b, sums, site_);
}
inline int4 multiply_unsigned_bytes(uint4 a, uint2 b, int4 sums, MSL_SITE_) {
  return multiply_bytes_<unsigned char>(a, b, sums, site_);
}

// Adds to memory that other blocks add to at the same time.
inline void add_in_any_order(long* to, long value) {
  __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL);
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

// 2^23 and byte i of the word, exactly: conversions of integers are slow.
inline float byte_above(uint word, uint i) {
  return 8388608.0f + float(word >> 8 * i & 255);
}

// Bytes that the block will read: begins to bring them near. Thread `index` does its part.
inline void expect(const void*, uint, uint) {}
// The same for the 128 bytes that one thread will read, or others.
inline void expect_line(const void*) {}

inline ulong nanoseconds() {
  return 0;
}

// What is read before may be asked for while the kernel before this one still runs, so it must not
// be anything that a kernel wrote. Once in a kernel, by all threads of a block; blocks that have
// nothing to do may do without, but not all of them.
inline void begin_after_earlier_kernel() {}

#else

MSL_FUNCTION void begin_after_earlier_kernel() {
  asm volatile("gander_begin" ::: "memory");  // ptx.cpp
}

MSL_FUNCTION uint load_now(const uint* from) {
  uint value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"((const MSL_GLOBAL uint*)from)
               : "memory");
  return value;
}
MSL_FUNCTION uint4 load_now(const uint4* from) {
  uint x, y, z, w;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
               : "l"((const MSL_GLOBAL uint4*)from)
               : "memory");
  return uint4(x, y, z, w);
}
MSL_FUNCTION void store_now(uint* to, uint value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"((MSL_GLOBAL uint*)to), "r"(value)
               : "memory");
}
MSL_FUNCTION uint add_now(uint* to, uint value) {
  uint before;
  asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"((MSL_GLOBAL uint*)to), "r"(value)
               : "memory");
  return before;
}
MSL_FUNCTION bool try_again(bool waits) {
  return __nvvm_vote_any_sync(~0u, waits);
}

MSL_FUNCTION uint shared_address(const void* pointer) {
  return uint((ulong)(const MSL_SHARED void*)pointer);
}

#if MSL_BULK_COPIES  // sm_90: one thread tells the copy engine, and an mbarrier counts bytes

MSL_FUNCTION void prepare_piece(ulong* done) {
  asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(done)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
MSL_FUNCTION void begin_piece(void* to, const void* from, uint bytes, ulong* done, uint) {
  // Unlike a comparison of lanes this tells the compiler that it is one thread.
  uint elected;
  asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 %0, 1, 0, p; }"
               : "=r"(elected));
  if (elected == 0 || bytes == 0) return;
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(done)),
               "r"(bytes)
               : "memory");
  // What is read once must not drive from the second-level cache what will be read again.
  asm volatile(
      "{ .reg .b64 once; createpolicy.fractional.L2::evict_first.b64 once, 1.0; "
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], once; }" ::"r"(shared_address(to)),
      "l"((const MSL_GLOBAL void*)from), "r"(bytes), "r"(shared_address(done))
      : "memory");
}
#define MSL_TRY_WAIT "mbarrier.try_wait.parity.shared.b64"

#else  // each thread copies, and an mbarrier counts those whose copies have come

MSL_FUNCTION void prepare_piece(ulong* done) {
  asm volatile("mbarrier.init.shared.b64 [%0], 32;" ::"r"(shared_address(done)) : "memory");
}
MSL_FUNCTION void begin_piece(void* to, const void* from, uint bytes, ulong* done, uint lane) {
  for (uint i = 16 * lane; i < bytes; i += 512) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared_address(to) + i),
                 "l"((const MSL_GLOBAL char*)from + i)
                 : "memory");
  }
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(done))
               : "memory");
}

#define MSL_TRY_WAIT "mbarrier.test_wait.parity.shared.b64"

#endif

MSL_FUNCTION void wait_for_piece(ulong* done, uint turn) {
  uint arrived;
  do {
    asm volatile("{ .reg .pred p; " MSL_TRY_WAIT " p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(arrived)
                 : "r"(shared_address(done)), "r"(turn & 1)
                 : "memory");
  } while (arrived == 0);
}
#undef MSL_TRY_WAIT

#define MSL_MULTIPLY_BYTES(name, type)                                 \
  MSL_FUNCTION int4 name(uint4 a, uint2 b, int4 sums) {                \
    int x = sums.x, y = sums.y, z = sums.z, w = sums.w;                \
    asm("mma.sync.aligned.m16n8k32.row.col.s32." type                  \
        ".s8.s32 {%0, %1, %2, %3}, "                                   \
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                \
        : "+r"(x), "+r"(y), "+r"(z), "+r"(w)                           \
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y)); \
    return int4(x, y, z, w);                                           \
  }
MSL_MULTIPLY_BYTES(multiply_signed_bytes, "s8")
MSL_MULTIPLY_BYTES(multiply_unsigned_bytes, "u8")
#undef MSL_MULTIPLY_BYTES

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

MSL_FUNCTION float byte_above(uint word, uint i) {
  return __builtin_bit_cast(float, (uint)__nvvm_prmt(word, 0x4b000000, 0x7540 + i));
}

MSL_FUNCTION void expect(const void* from, uint bytes, uint index) {
  for (uint i = index * 128; i < bytes; i += __nvvm_read_ptx_sreg_ntid_x() * 128) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"((const MSL_GLOBAL char*)from + i));
  }
}

MSL_FUNCTION void expect_line(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"((const MSL_GLOBAL char*)from));
}

MSL_FUNCTION ulong nanoseconds() {
  ulong now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

#endif

}  // namespace metal

#include "msl_tensor.h"
