// The NVIDIA dialect: what a kernel's parameters are bound to, and how threads wait and exchange
// values.
//
// Two things are known only when a pipeline is made, and stand in the PTX text as names until then
// (backend/gpu/cuda/ptx.h puts the values in their places):
//   gander_constant_N   the bits of function constant N, so that ptxas folds it into the code
//   gander_arguments    the kernel's parameter: the addresses of its buffers, eight bytes each,
//   and,
//                       at the next multiple of 16, the struct that Metal's setBytes would copy
// So a kernel's arguments are read straight from where the launch put them.
#pragma once

namespace msl {

extern MSL_SHARED char group_memory_[] __attribute__((aligned(16)));

// Not volatile: calls are merged and moved like any other arithmetic.
MSL_FUNCTION const MSL_PARAMETER char* arguments() {
  const MSL_PARAMETER char* address;
  asm("mov.b64 %0, gander_arguments;" : "=l"(address));
  return address;
}

constexpr uint parameter_offset(uint buffers) {
  return (buffers * 8 + 15) / 16 * 16;
}

template <class T>
inline constexpr bool is_const = false;
template <class T>
inline constexpr bool is_const<const T> = true;

// A buffer becomes what the kernel's parameter is: a pointer, a reference to device memory, or, for
// `constant T&`, the struct of parameters, which comes last and so has as many buffers before it as
// its index says.
struct BufferArgument {
  uint index;

  template <class T>
  MSL_MEMBER operator T*() const {
    using Pointer = MSL_GLOBAL T*;
    return (T*)((const MSL_PARAMETER Pointer*)arguments())[index];
  }
  template <class T>
  MSL_MEMBER operator T&() const {
    if constexpr (is_const<T>) {
      return *(T*)(MSL_PARAMETER T*)(arguments() + parameter_offset(index));
    } else {
      return *static_cast<T*>(*this);
    }
  }
};
MSL_FUNCTION BufferArgument buffer(uint index) {
  return {index};
}

struct GroupMemoryArgument {
  template <class T>
  MSL_MEMBER operator T*() const {
    return (T*)(MSL_SHARED T*)group_memory_;
  }
};
MSL_FUNCTION GroupMemoryArgument group_memory() {
  return {};
}

// Sizes of the block that a kernel with these parameters reads. Thread-group memory counts as a
// buffer here, which does no harm: it comes last.
template <class T>
struct ArgumentBytes {
  static constexpr uint after(uint begin) { return begin; }
};
template <class T>
struct ArgumentBytes<T*> {
  static constexpr uint after(uint begin) { return begin + 8; }
};
template <class T>
struct ArgumentBytes<T&> {
  static constexpr uint after(uint begin) {
    return is_const<T> ? (begin + 15) / 16 * 16 + uint(sizeof(T)) : begin + 8;
  }
};
template <class... Parameters>
constexpr uint argument_bytes(void (*)(Parameters...)) {
  uint bytes = 0;
  ((bytes = ArgumentBytes<Parameters>::after(bytes)), ...);
  return bytes > 0 ? bytes : 8;
}
template <uint N>
struct alignas(16) ArgumentBlock {
  char bytes[N];
};

template <int Index, class T>
struct FunctionConstant {
  MSL_MEMBER operator T() const {
    uint bits;
    asm("mov.b32 %0, gander_constant_%c1;" : "=r"(bits) : "n"(Index));
    if constexpr (metal::is_same_<T, float>::value) {
      return __builtin_bit_cast(float, bits);
    } else {
      return T(bits);
    }
  }
};

struct IndexArgument {
  uint x;
  MSL_MEMBER operator uint() const { return x; }
  MSL_MEMBER operator ushort() const { return ushort(x); }
};
struct PositionArgument {
  uint x, y, z;
  MSL_MEMBER operator uint() const { return x; }
  MSL_MEMBER operator ushort() const { return ushort(x); }
  template <class T>
  MSL_MEMBER operator metal::vec<T, 2>() const {
    return {T(x), T(y)};
  }
  template <class T>
  MSL_MEMBER operator metal::vec<T, 3>() const {
    return {T(x), T(y), T(z)};
  }
};

#define MSL_POSITION(name, reg)                                                             \
  MSL_FUNCTION PositionArgument name() {                                                    \
    return {uint(__nvvm_read_ptx_sreg_##reg##_x()), uint(__nvvm_read_ptx_sreg_##reg##_y()), \
            uint(__nvvm_read_ptx_sreg_##reg##_z())};                                        \
  }
MSL_POSITION(threadgroup_position_in_grid, ctaid)
MSL_POSITION(threadgroups_per_grid, nctaid)
MSL_POSITION(thread_position_in_threadgroup, tid)
MSL_POSITION(threads_per_threadgroup, ntid)
#undef MSL_POSITION
MSL_FUNCTION PositionArgument thread_position_in_grid() {
  const PositionArgument group = threadgroup_position_in_grid();
  const PositionArgument threads = threads_per_threadgroup();
  const PositionArgument self = thread_position_in_threadgroup();
  return {group.x * threads.x + self.x, group.y * threads.y + self.y, group.z * threads.z + self.z};
}
MSL_FUNCTION PositionArgument threads_per_grid() {
  const PositionArgument groups = threadgroups_per_grid();
  const PositionArgument threads = threads_per_threadgroup();
  return {groups.x * threads.x, groups.y * threads.y, groups.z * threads.z};
}
// Groups have one dimension: a Dispatch cannot ask for more.
MSL_FUNCTION IndexArgument thread_index_in_threadgroup() {
  return {uint(__nvvm_read_ptx_sreg_tid_x())};
}
MSL_FUNCTION IndexArgument thread_index_in_simdgroup() {
  return {thread_index_in_threadgroup().x % 32};
}
MSL_FUNCTION IndexArgument simdgroup_index_in_threadgroup() {
  return {thread_index_in_threadgroup().x / 32};
}
MSL_FUNCTION IndexArgument simdgroups_per_threadgroup() {
  return {threads_per_threadgroup().x / 32};
}
MSL_FUNCTION IndexArgument threads_per_simdgroup() {
  return {32};
}

}  // namespace msl

namespace metal {

// Errors of waiting are compute-sanitizer's business: a place in the text is of no use here.
#define MSL_SITE_ int site_ = 0

MSL_FUNCTION void threadgroup_barrier(mem_flags) {
  __syncthreads();
}
MSL_FUNCTION void simdgroup_barrier(mem_flags) {
  __nvvm_bar_warp_sync(~0u);
}
MSL_FUNCTION void atomic_thread_fence(mem_flags flags, memory_order,
                                      thread_scope = thread_scope_device) {
  if (flags != mem_flags::mem_none) __nvvm_membar_gl();
}

MSL_FUNCTION uint lane_() {
  return msl::thread_index_in_simdgroup();
}

// The value of lane `from`; this lane's own where there is no such lane. All 32 lanes take part.
template <class T>
MSL_FUNCTION T shuffle_(T value, uint from, int) {
  const T own = value;
  int words[(sizeof(T) + 3) / 4] = {};
  __builtin_memcpy(words, &value, sizeof value);
  for (int& word : words) word = __nvvm_shfl_sync_idx_i32(~0u, word, from, 31);
  __builtin_memcpy(&value, words, sizeof value);
  return from < 32 ? value : own;
}
// The value of the lane whose number differs in the bits of `mask`, which a compiler knows: no
// register is needed for that lane's number.
template <class T>
MSL_FUNCTION T shuffle_xor_(T value, uint mask, int) {
  int words[(sizeof(T) + 3) / 4] = {};
  __builtin_memcpy(words, &value, sizeof value);
  for (int& word : words) word = __nvvm_shfl_sync_bfly_i32(~0u, word, mask, 31);
  __builtin_memcpy(&value, words, sizeof value);
  return value;
}
#define MSL_SHUFFLE_XOR_(value, mask, site) shuffle_xor_(value, mask, site)
template <class T, class F>
MSL_FUNCTION T fold_(T value, F f, int) {
#pragma unroll
  for (uint distance = 16; distance > 0; distance /= 2) {
    value = f(value, shuffle_xor_(value, distance, 0));
  }
  return value;
}
// f over the lanes before this one, and over it too when `inclusive`.
template <class T, class F>
MSL_FUNCTION T prefix_(T value, T start, F f, bool inclusive, int) {
  if (!inclusive) {
    value = shuffle_(value, lane_() - 1, 0);
    if (lane_() == 0) value = start;
  }
  for (uint distance = 1; distance < 32; distance *= 2) {
    const T before = shuffle_(value, lane_() - distance, 0);
    if (lane_() >= distance) value = f(before, value);
  }
  return value;
}
MSL_FUNCTION uint ballot_(bool value, int) {
  return __nvvm_vote_ballot_sync(~0u, value);
}

// sum += a b for 8x8 matrices of which every lane has elements `lane` and `lane + 32`.
template <class D, class A, class B>
MSL_FUNCTION void multiply_accumulate_(D* sum, const A* a, const B* b, int) {
  for (uint part = 0; part < 2; ++part) {
    const uint element = lane_() + 32 * part;
    for (uint k = 0; k < 8; ++k) {
      const uint in_a = element / 8 * 8 + k, in_b = k * 8 + element % 8;
      const A a0 = shuffle_(a[0], in_a % 32, 0), a1 = shuffle_(a[1], in_a % 32, 0);
      const B b0 = shuffle_(b[0], in_b % 32, 0), b1 = shuffle_(b[1], in_b % 32, 0);
      sum[part] += D(in_a < 32 ? a0 : a1) * D(in_b < 32 ? b0 : b1);
    }
  }
}

}  // namespace metal
