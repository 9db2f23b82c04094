// Atomic operations, all relaxed: Metal has no other order for them.
#pragma once

namespace metal {

template <class T>
struct atomic {
  T value_;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

#ifndef MSL_ATOMIC_LOAD_
#define MSL_ATOMIC_LOAD_(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define MSL_ATOMIC_STORE_(p, x) __atomic_store_n(p, x, __ATOMIC_RELAXED)
#define MSL_ATOMIC_EXCHANGE_(p, x) __atomic_exchange_n(p, x, __ATOMIC_RELAXED)
#define MSL_ATOMIC_COMPARE_(p, expected, x) \
  __atomic_compare_exchange_n(p, expected, x, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
// Not volatile: NVIDIA's instructions for thread-group memory are not found for such a pointer.
#define MSL_ATOMIC_FETCH_(name, p, x) __atomic_fetch_##name(const_cast<T*>(p), x, __ATOMIC_RELAXED)
#endif

#define MSL_ATOMIC_UPDATE(space, name, expression)                                 \
  template <class T>                                                               \
  MSL_FUNCTION T atomic_fetch_##name##_explicit(volatile space atomic<T>* object,  \
                                                not_deduced_<T> b, memory_order) { \
    T a = MSL_ATOMIC_LOAD_(&object->value_);                                       \
    while (!MSL_ATOMIC_COMPARE_(&object->value_, &a, T(expression))) {             \
    }                                                                              \
    return a;                                                                      \
  }
// Integers have instructions for these, whatever comes between. MSL's are all of 32 bits but ulong.
#define MSL_ATOMIC_INTEGERS(space, name, expression)                               \
  template <class T>                                                               \
  MSL_FUNCTION T atomic_fetch_##name##_explicit(volatile space atomic<T>* object,  \
                                                not_deduced_<T> b, memory_order) { \
    if constexpr (is_same_<T, int>::value || is_same_<T, uint>::value ||           \
                  is_same_<T, ulong>::value) {                                     \
      return MSL_ATOMIC_FETCH_(name, &object->value_, b);                          \
    } else {                                                                       \
      T a = MSL_ATOMIC_LOAD_(&object->value_);                                     \
      while (!MSL_ATOMIC_COMPARE_(&object->value_, &a, T(expression))) {           \
      }                                                                            \
      return a;                                                                    \
    }                                                                              \
  }
#define MSL_ATOMICS(space)                                                                       \
  template <class T>                                                                             \
  MSL_FUNCTION T atomic_load_explicit(const volatile space atomic<T>* object, memory_order) {    \
    return MSL_ATOMIC_LOAD_(&object->value_);                                                    \
  }                                                                                              \
  template <class T>                                                                             \
  MSL_FUNCTION void atomic_store_explicit(volatile space atomic<T>* object, not_deduced_<T> x,   \
                                          memory_order) {                                        \
    MSL_ATOMIC_STORE_(&object->value_, x);                                                       \
  }                                                                                              \
  template <class T>                                                                             \
  MSL_FUNCTION T atomic_exchange_explicit(volatile space atomic<T>* object, not_deduced_<T> x,   \
                                          memory_order) {                                        \
    return MSL_ATOMIC_EXCHANGE_(&object->value_, x);                                             \
  }                                                                                              \
  template <class T>                                                                             \
  MSL_FUNCTION bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>* object,      \
                                                          thread T* expected, not_deduced_<T> x, \
                                                          memory_order, memory_order) {          \
    return MSL_ATOMIC_COMPARE_(&object->value_, expected, x);                                    \
  }                                                                                              \
  MSL_ATOMIC_INTEGERS(space, add, a + b)                                                         \
  MSL_ATOMIC_INTEGERS(space, sub, a - b)                                                         \
  MSL_ATOMIC_INTEGERS(space, and, a& b)                                                          \
  MSL_ATOMIC_INTEGERS(space, or, a | b)                                                          \
  MSL_ATOMIC_INTEGERS(space, xor, a ^ b)                                                         \
  MSL_ATOMIC_UPDATE(space, min, min(a, T(b)))                                                    \
  MSL_ATOMIC_UPDATE(space, max, max(a, T(b)))
MSL_EACH_SPACE(MSL_ATOMICS)
#undef MSL_ATOMICS
#undef MSL_ATOMIC_UPDATE
#undef MSL_ATOMIC_INTEGERS

}  // namespace metal
