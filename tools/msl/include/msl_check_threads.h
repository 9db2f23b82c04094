// The checker's dialect: what parameters may be, and functions without bodies.
#pragma once

namespace msl {

template <class T>
struct Pointed {
  enum { value = false };
};
template <class T>
struct Pointed<T*> {
  enum { value = true };
};
// A reference to a struct or number, not to a pointer.
template <class T>
using IfNoPointer = typename metal::enable_<!Pointed<T>::value>::type;

// A parameter with [[buffer(n)]]: a pointer or reference to device or constant memory.
struct Buffer {
  template <class T>
  operator __global T*() const;
  template <class T>
  operator __constant T*() const;
  template <class T, class = IfNoPointer<T>>
  operator __global T&() const;
  template <class T, class = IfNoPointer<T>>
  operator __constant T&() const;
};
struct GroupMemory {
  template <class T>
  operator __local T*() const;
  template <class T, class = IfNoPointer<T>>
  operator __local T&() const;
};
struct Index {
  operator ushort() const;
  operator uint() const;
};
struct Position : Index {
  operator ushort2() const;
  operator ushort3() const;
  operator uint2() const;
  operator uint3() const;
};
using thread_position_in_grid = Position;
using thread_position_in_threadgroup = Position;
using threadgroup_position_in_grid = Position;
using threads_per_grid = Position;
using threads_per_threadgroup = Position;
using threadgroups_per_grid = Position;
using thread_index_in_threadgroup = Index;
using thread_index_in_simdgroup = Index;
using simdgroup_index_in_threadgroup = Index;
using simdgroups_per_threadgroup = Index;
using threads_per_simdgroup = Index;

}  // namespace msl

namespace metal {

#define MSL_SITE_ int site_ = 0
#define MSL_ATOMIC_LOAD_(p) (*(p))
#define MSL_ATOMIC_STORE_(p, x) (*(p) = (x))
#define MSL_ATOMIC_EXCHANGE_(p, x) (*(p) = (x))
#define MSL_ATOMIC_FETCH_(name, p, x) (*(p) = (x))
#define MSL_ATOMIC_COMPARE_(p, expected, x) (*(p) == *(expected) ? (*(p) = (x), true) : false)

void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
#if __METAL_VERSION__ >= 320
void atomic_thread_fence(mem_flags, memory_order, thread_scope = thread_scope_device);
#endif
uint lane_();
template <class T>
T shuffle_(T value, uint from, int);
template <class T, class F>
T fold_(T value, F f, int);
template <class T, class F>
T prefix_(T value, T start, F f, bool inclusive, int);
uint ballot_(bool value, int);
template <class D, class A, class B>
void multiply_accumulate_(thread D* sum, thread const A* a, thread const B* b, int);

}  // namespace metal
