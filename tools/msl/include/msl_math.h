// Functions of numbers and vectors.
#pragma once

#ifndef MSL_EXP_
#define MSL_EXP_(x) __builtin_expf(x)
#define MSL_EXP2_(x) __builtin_exp2f(x)
#define MSL_LOG_(x) __builtin_logf(x)
#define MSL_LOG2_(x) __builtin_log2f(x)
#define MSL_SIN_(x) __builtin_sinf(x)
#define MSL_COS_(x) __builtin_cosf(x)
#define MSL_TANH_(x) __builtin_tanhf(x)
#define MSL_POW_(x, y) __builtin_powf(x, y)
#endif

namespace metal {

// A function of float, for half (through float) and for vectors element by element. An integer
// argument is ambiguous, as in Metal.
#define MSL_FLOAT_FUNCTION(name, expression)                         \
  MSL_FUNCTION float name(float x) {                                 \
    return expression;                                               \
  }                                                                  \
  MSL_FUNCTION half name(half x) {                                   \
    return half(name(float(x)));                                     \
  }                                                                  \
  template <class V>                                                 \
  MSL_FUNCTION as_vec_<V> name(V v) {                                \
    as_vec_<V> r(v);                                                 \
    for (int i = 0; i < elements_<V>::count; ++i) r[i] = name(r[i]); \
    return r;                                                        \
  }
#define MSL_TRANSCENDENTAL_FUNCTIONS                   \
  MSL_FLOAT_FUNCTION(exp, MSL_EXP_(x))                 \
  MSL_FLOAT_FUNCTION(exp2, MSL_EXP2_(x))               \
  MSL_FLOAT_FUNCTION(log, MSL_LOG_(x))                 \
  MSL_FLOAT_FUNCTION(log2, MSL_LOG2_(x))               \
  MSL_FLOAT_FUNCTION(sin, MSL_SIN_(x))                 \
  MSL_FLOAT_FUNCTION(cos, MSL_COS_(x))                 \
  MSL_FLOAT_FUNCTION(tanh, MSL_TANH_(x))               \
  MSL_FLOAT_FUNCTION(sqrt, __builtin_sqrtf(x))         \
  MSL_FLOAT_FUNCTION(rsqrt, 1.0f / __builtin_sqrtf(x)) \
  MSL_FUNCTION float pow(float x, float y) {           \
    return MSL_POW_(x, y);                             \
  }
MSL_TRANSCENDENTAL_FUNCTIONS
MSL_FLOAT_FUNCTION(floor, __builtin_floorf(x))
MSL_FLOAT_FUNCTION(ceil, __builtin_ceilf(x))
MSL_FLOAT_FUNCTION(round, __builtin_roundf(x))
MSL_FLOAT_FUNCTION(rint, __builtin_rintf(x))
MSL_FLOAT_FUNCTION(trunc, __builtin_truncf(x))
MSL_FLOAT_FUNCTION(fabs, __builtin_fabsf(x))
MSL_FLOAT_FUNCTION(fract, x - __builtin_floorf(x))
MSL_FLOAT_FUNCTION(saturate, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)
namespace precise {
MSL_TRANSCENDENTAL_FUNCTIONS
}
namespace fast {
MSL_TRANSCENDENTAL_FUNCTIONS
}
#undef MSL_TRANSCENDENTAL_FUNCTIONS
#undef MSL_FLOAT_FUNCTION

// min, max and clamp of one type; with a NaN among two floats, the other.
#define MSL_ORDER_FUNCTIONS(T)               \
  MSL_FUNCTION T max(T a, T b) {             \
    return a > b || b != b ? a : b;          \
  }                                          \
  MSL_FUNCTION T min(T a, T b) {             \
    return a < b || b != b ? a : b;          \
  }                                          \
  MSL_FUNCTION T clamp(T x, T low, T high) { \
    return min(max(x, low), high);           \
  }
MSL_ORDER_FUNCTIONS(float)
MSL_ORDER_FUNCTIONS(half)
MSL_ORDER_FUNCTIONS(char)
MSL_ORDER_FUNCTIONS(uchar)
MSL_ORDER_FUNCTIONS(short)
MSL_ORDER_FUNCTIONS(ushort)
MSL_ORDER_FUNCTIONS(int)
MSL_ORDER_FUNCTIONS(uint)
MSL_ORDER_FUNCTIONS(long)
MSL_ORDER_FUNCTIONS(ulong)
#undef MSL_ORDER_FUNCTIONS
MSL_FUNCTION float fmax(float a, float b) {
  return max(a, b);
}
MSL_FUNCTION float fmin(float a, float b) {
  return min(a, b);
}
MSL_FUNCTION half fmax(half a, half b) {
  return max(a, b);
}
MSL_FUNCTION half fmin(half a, half b) {
  return min(a, b);
}

MSL_FUNCTION float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
MSL_FUNCTION half fma(half a, half b, half c) {
  return half(fma(float(a), float(b), float(c)));
}
MSL_FUNCTION float mix(float a, float b, float t) {
  return a + (b - a) * t;
}
MSL_FUNCTION float step(float edge, float x) {
  return x < edge ? 0.0f : 1.0f;
}
MSL_FUNCTION float sign(float x) {
  return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
}
MSL_FUNCTION float copysign(float x, float y) {
  return __builtin_copysignf(x, y);
}
MSL_FUNCTION float fmod(float x, float y) {
  return x - y * __builtin_truncf(x / y);
}
MSL_FUNCTION float ldexp(float x, int e) {
  return __builtin_ldexpf(x, e);
}
MSL_FUNCTION bool isnan(float x) {
  return __builtin_isnan(x);
}
MSL_FUNCTION bool isinf(float x) {
  return __builtin_isinf(x);
}
MSL_FUNCTION bool isfinite(float x) {
  return !__builtin_isnan(x) && !__builtin_isinf(x);
}

#define MSL_ABS(T)               \
  MSL_FUNCTION T abs(T x) {      \
    return x < T(0) ? T(-x) : x; \
  }
MSL_ABS(float)
MSL_ABS(half)
MSL_ABS(short)
MSL_ABS(int)
MSL_ABS(long)
#undef MSL_ABS

template <class T>
MSL_FUNCTION T select(T a, not_deduced_<T> b, bool c) {
  return c ? b : a;
}

// Vectors and swizzles V; a number among the later arguments stands for a vector.
template <class V>
using like_ = not_deduced_<as_vec_<V>>;
template <class V>
MSL_FUNCTION element_<as_vec_<V>> dot(V a, like_<V> b) {
  const as_vec_<V> first(a);
  element_<V> sum = first.v[0] * b.v[0];
  for (int i = 1; i < elements_<V>::count; ++i) sum = element_<V>(sum + first.v[i] * b.v[i]);
  return sum;
}
template <class V>
MSL_FUNCTION element_<as_vec_<V>> length(V a) {
  return sqrt(dot(a, as_vec_<V>(a)));
}
template <int N>
MSL_FUNCTION bool any(vec<bool, N> a) {
  bool r = false;
  for (int i = 0; i < N; ++i) r = r || a.v[i];
  return r;
}
template <int N>
MSL_FUNCTION bool all(vec<bool, N> a) {
  bool r = true;
  for (int i = 0; i < N; ++i) r = r && a.v[i];
  return r;
}
template <class V>
MSL_FUNCTION as_vec_<V> select(V a, like_<V> b, vec<bool, elements_<V>::count> c) {
  as_vec_<V> r(a);
  for (int i = 0; i < elements_<V>::count; ++i) r.v[i] = c.v[i] ? b.v[i] : r.v[i];
  return r;
}
#define MSL_ELEMENTWISE(name, parameters, ...)                          \
  template <class V>                                                    \
  MSL_FUNCTION as_vec_<V> name parameters {                             \
    as_vec_<V> r(a);                                                    \
    for (int i = 0; i < elements_<V>::count; ++i) r.v[i] = __VA_ARGS__; \
    return r;                                                           \
  }
#define MSL_ELEMENTWISE_1(name) MSL_ELEMENTWISE(name, (V a), name(r.v[i]))
#define MSL_ELEMENTWISE_2(name) MSL_ELEMENTWISE(name, (V a, like_<V> b), name(r.v[i], b.v[i]))
#define MSL_ELEMENTWISE_3(name) \
  MSL_ELEMENTWISE(name, (V a, like_<V> b, like_<V> c), name(r.v[i], b.v[i], c.v[i]))
MSL_ELEMENTWISE_1(abs)
MSL_ELEMENTWISE_1(sign)
MSL_ELEMENTWISE_2(min)
MSL_ELEMENTWISE_2(max)
MSL_ELEMENTWISE_2(fmin)
MSL_ELEMENTWISE_2(fmax)
MSL_ELEMENTWISE_2(pow)
MSL_ELEMENTWISE_3(clamp)
MSL_ELEMENTWISE_3(fma)
MSL_ELEMENTWISE_3(mix)
#undef MSL_ELEMENTWISE_2
#undef MSL_ELEMENTWISE_3

// Bits of integers.
MSL_FUNCTION uint popcount(uint x) {
  return uint(__builtin_popcount(x));
}
MSL_FUNCTION int popcount(int x) {
  return int(popcount(uint(x)));
}
MSL_FUNCTION ushort popcount(ushort x) {
  return ushort(popcount(uint(x)));
}
MSL_FUNCTION ulong popcount(ulong x) {
  return popcount(uint(x)) + popcount(uint(x >> 32));
}
MSL_FUNCTION uint clz(uint x) {
  return x == 0 ? 32 : uint(__builtin_clz(x));
}
MSL_FUNCTION int clz(int x) {
  return int(clz(uint(x)));
}
MSL_FUNCTION ulong clz(ulong x) {
  return x >> 32 != 0 ? clz(uint(x >> 32)) : 32 + clz(uint(x));
}
MSL_FUNCTION uint ctz(uint x) {
  return x == 0 ? 32 : uint(__builtin_ctz(x));
}
MSL_FUNCTION int ctz(int x) {
  return int(ctz(uint(x)));
}
MSL_FUNCTION ulong ctz(ulong x) {
  return uint(x) != 0 ? ctz(uint(x)) : 32 + ctz(uint(x >> 32));
}
MSL_FUNCTION uint mulhi(uint a, uint b) {
  return uint(ulong(a) * b >> 32);
}
MSL_FUNCTION int mulhi(int a, int b) {
  return int(long(a) * b >> 32);
}
MSL_FUNCTION ulong mulhi(ulong a, ulong b) {
  const ulong low = (a & 0xffffffff) * (b & 0xffffffff);
  const ulong cross = (a >> 32) * (b & 0xffffffff) + (low >> 32);
  const ulong other = (a & 0xffffffff) * (b >> 32) + (cross & 0xffffffff);
  return (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32);
}
MSL_FUNCTION uint rotate(uint x, uint by) {
  return x << (by & 31) | x >> (-by & 31);
}
MSL_FUNCTION uint extract_bits(uint x, uint offset, uint bits) {
  return bits == 0 ? 0 : x << (32 - bits - offset) >> (32 - bits);
}
MSL_FUNCTION uint reverse_bits(uint x) {
  x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
  x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
  x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
  x = (x >> 8 & 0x00ff00ff) | (x & 0x00ff00ff) << 8;
  return x >> 16 | x << 16;
}
MSL_ELEMENTWISE_1(popcount)
MSL_ELEMENTWISE_1(clz)
MSL_ELEMENTWISE_1(ctz)
#undef MSL_ELEMENTWISE_1
#undef MSL_ELEMENTWISE

// What threads say to each other, for every dialect.
enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(int(a) | int(b));
}
enum memory_order {
  memory_order_relaxed,
#if __METAL_VERSION__ >= 320
  memory_order_seq_cst,
#endif
};
#if __METAL_VERSION__ >= 320
enum thread_scope {
  thread_scope_thread,
  thread_scope_simdgroup,
  thread_scope_threadgroup,
  thread_scope_device,
};
#endif

}  // namespace metal

#ifndef INFINITY
#define INFINITY __builtin_inff()
#endif
#ifndef NAN
#define NAN __builtin_nanf("")
#endif
#undef FLT_MAX
#define FLT_MAX 3.402823466e+38f
#undef FLT_MIN
#define FLT_MIN 1.175494351e-38f
#undef FLT_EPSILON
#define FLT_EPSILON 1.192092896e-07f
#define M_PI_F 3.14159265358979f
#define M_LOG2E_F 1.44269504088896f
#define M_LN2_F 0.693147180559945f
