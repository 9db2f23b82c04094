#pragma once

// What metal_stdlib needs of the machine, on an NVIDIA GPU: clang --target=nvptx64-nvidia-cuda,
// without CUDA's headers. A SIMD group is a warp, a thread group a block; a device pointer is a
// pointer to global memory, which clang finds out once everything is inlined.
//
// Two things are known only when a pipeline is made, and stand in the PTX text as names until then
// (backend/gpu/cuda/ptx.h puts the values in their places):
//   gander_constant_N   the bits of function constant N, so that ptxas folds it into the code
//   gander_arguments    the kernel's parameter: the addresses of its buffers, eight bytes each, and,
//                       at the next multiple of 16, the struct that Metal's setBytes would copy
// So a kernel's arguments are read straight from where the launch put them.

#define MSL_GLOBAL __attribute__((address_space(1)))
#define MSL_SHARED __attribute__((address_space(3)))
#define MSL_PARAMETER __attribute__((address_space(101)))

namespace msl {

extern MSL_SHARED char group_memory[] __attribute__((aligned(16)));

// Not volatile: calls are merged and moved like any other arithmetic.
MSL_FN const MSL_PARAMETER char* arguments() {
  const MSL_PARAMETER char* address;
  asm("mov.b64 %0, gander_arguments;" : "=l"(address));
  return address;
}

constexpr uint parameter_offset(uint buffers) { return (buffers * 8 + 15) / 16 * 16; }

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
  MSL_FN1 operator T*() const {
    using Pointer = MSL_GLOBAL T*;
    return (T*)((const MSL_PARAMETER Pointer*)arguments())[index];
  }
  template <class T>
  MSL_FN1 operator T&() const {
    if constexpr (is_const<T>) {
      return *(T*)(MSL_PARAMETER T*)(arguments() + parameter_offset(index));
    } else {
      return *static_cast<T*>(*this);
    }
  }
};
MSL_FN BufferArgument buffer(uint index) { return {index}; }

struct ThreadgroupArgument {
  template <class T>
  MSL_FN1 operator T*() const {
    return (T*)(MSL_SHARED T*)group_memory;
  }
};
MSL_FN ThreadgroupArgument group_memory_argument() { return {}; }

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
  MSL_FN1 operator T() const {
    uint bits;
    asm("mov.b32 %0, gander_constant_%c1;" : "=r"(bits) : "n"(Index));
    if constexpr (metal::is_same<T, float>::value) {
      return __builtin_bit_cast(float, bits);
    } else {
      return T(bits);
    }
  }
};

struct IndexArgument {
  uint x;
  MSL_FN1 operator uint() const { return x; }
  MSL_FN1 operator ushort() const { return ushort(x); }
};
struct PositionArgument {
  uint x, y, z;
  MSL_FN1 operator uint() const { return x; }
  MSL_FN1 operator ushort() const { return ushort(x); }
  template <class T>
  MSL_FN1 operator metal::vec<T, 2>() const {
    return {T(x), T(y)};
  }
  template <class T>
  MSL_FN1 operator metal::vec<T, 3>() const {
    return {T(x), T(y), T(z)};
  }
};

#define MSL_POSITION(name, reg)                                                          \
  MSL_FN PositionArgument name() {                                                            \
    return {uint(__nvvm_read_ptx_sreg_##reg##_x()), uint(__nvvm_read_ptx_sreg_##reg##_y()), \
            uint(__nvvm_read_ptx_sreg_##reg##_z())};                                       \
  }
MSL_POSITION(threadgroup_position_in_grid, ctaid)
MSL_POSITION(threadgroups_per_grid, nctaid)
MSL_POSITION(thread_position_in_threadgroup, tid)
MSL_POSITION(threads_per_threadgroup, ntid)
#undef MSL_POSITION
MSL_FN PositionArgument thread_position_in_grid() {
  const PositionArgument group = threadgroup_position_in_grid();
  const PositionArgument threads = threads_per_threadgroup();
  const PositionArgument self = thread_position_in_threadgroup();
  return {group.x * threads.x + self.x, group.y * threads.y + self.y,
          group.z * threads.z + self.z};
}
MSL_FN PositionArgument threads_per_grid() {
  const PositionArgument groups = threadgroups_per_grid();
  const PositionArgument threads = threads_per_threadgroup();
  return {groups.x * threads.x, groups.y * threads.y, groups.z * threads.z};
}
// Groups have one dimension: a Dispatch cannot ask for more.
MSL_FN IndexArgument thread_index_in_threadgroup() { return {uint(__nvvm_read_ptx_sreg_tid_x())}; }
MSL_FN IndexArgument thread_index_in_simdgroup() { return {thread_index_in_threadgroup().x % 32}; }
MSL_FN IndexArgument simdgroup_index_in_threadgroup() {
  return {thread_index_in_threadgroup().x / 32};
}
MSL_FN IndexArgument simdgroups_per_threadgroup() { return {threads_per_threadgroup().x / 32}; }
MSL_FN IndexArgument threads_per_simdgroup() { return {32}; }

}  // namespace msl

#define MSL_BUFFER(index) = msl::buffer(index)
#define MSL_GROUP_MEMORY(index) = msl::group_memory_argument()
#define MSL_BUILTIN(name) = msl::name()
#define MSL_FUNCTION_CONSTANT(type, name, index) \
  static constexpr msl::FunctionConstant<index, type> name {}
#define MSL_GROUP_VARIABLE(name, dimensions, ...)                                \
  using name##_type = __VA_ARGS__ dimensions;                                    \
  static MSL_SHARED char name##_memory alignas(16)[sizeof(name##_type)];         \
  name##_type& name = *(name##_type*)(MSL_SHARED name##_type*)name##_memory
#define MSL_ENTRY(name, buffers, used, ...)                         \
  extern "C" __attribute__((nvptx_kernel)) void name(               \
      msl::ArgumentBlock<msl::argument_bytes(__VA_ARGS__)>) {       \
    __VA_ARGS__();                                                  \
  }
#define MSL_BEGIN_FILE
#define MSL_END_FILE(name)
#define MSL_CONSTANT_VALUES(...)

namespace metal {

MSL_FN void threadgroup_barrier(mem_flags) { __syncthreads(); }
MSL_FN void simdgroup_barrier(mem_flags) { __nvvm_bar_warp_sync(~0u); }

MSL_FN uint simd_lane_() { return msl::thread_index_in_simdgroup(); }

// Another lane's value, whatever its size.
template <class T>
MSL_FN T simd_xchg_(T value, uint lane, int = 0) {
  int words[(sizeof(T) + 3) / 4] = {};
  __builtin_memcpy(words, &value, sizeof value);
  for (int& word : words) word = __nvvm_shfl_sync_idx_i32(~0u, word, lane, 31);
  __builtin_memcpy(&value, words, sizeof value);
  return value;
}

template <class T, class F>
MSL_FN T simd_fold_(T value, F fold, int = 0) {
  for (uint distance = 16; distance > 0; distance /= 2) {
    value = fold(value, simd_xchg_(value, simd_lane_() ^ distance));
  }
  return value;
}

// sums += a b, matrices of 8 by 8 of which a lane has the elements `lane` and `lane + 32`.
template <class D, class A, class B>
MSL_FN void mma_(D* sums, const A* a, const B* b, int) {
  for (uint half = 0; half < 2; ++half) {
    const uint element = simd_lane_() + 32 * half;
    for (uint k = 0; k < 8; ++k) {
      const uint in_a = element / 8 * 8 + k, in_b = k * 8 + element % 8;
      const A a0 = simd_xchg_(a[0], in_a % 32), a1 = simd_xchg_(a[1], in_a % 32);
      const B b0 = simd_xchg_(b[0], in_b % 32), b1 = simd_xchg_(b[1], in_b % 32);
      sums[half] += D(in_a < 32 ? a0 : a1) * D(in_b < 32 ? b0 : b1);
    }
  }
}

}  // namespace metal
