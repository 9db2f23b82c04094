// The NVIDIA dialect: what has to be known before the types are.
#pragma once

// clang finds the address spaces itself, by following pointers back to where they come from.
#define device
#define threadgroup
#define constant const
#define thread
// Only the entry points below are visible from outside: nothing else is worth compiling alone.
#define kernel static
#define MSL_EACH_SPACE(X) X()

#define MSL_FUNCTION static inline __attribute__((always_inline))
#define MSL_MEMBER __attribute__((always_inline))

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using int8_t = signed char;
using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;
using size_t = unsigned long;
using half = _Float16;

// Parameters, function constants and group variables: see translate.py, and msl_nvidia.h for what
// they come to.
#define MSL_BUFFER(index) = msl::buffer(index)
#define MSL_GROUP_MEMORY(index) = msl::group_memory()
#define MSL_BUILTIN(attribute) = msl::attribute()
#define MSL_FUNCTION_CONSTANT(type, name, index) \
  static constexpr msl::FunctionConstant<index, type> name{};
#define MSL_GROUP_VARIABLE(name, dimensions, ...)                          \
  using name##_type_ = __VA_ARGS__ dimensions;                             \
  static MSL_SHARED char name##_memory_ alignas(16)[sizeof(name##_type_)]; \
  name##_type_& name = *(name##_type_*)(MSL_SHARED name##_type_*)name##_memory_

#define MSL_BEGIN_FILE
#define MSL_CONSTANT_VALUES(...)
#define MSL_ENTRY(name, buffers, uses, ...)                   \
  extern "C" __attribute__((nvptx_kernel)) void name(         \
      msl::ArgumentBlock<msl::argument_bytes(__VA_ARGS__)>) { \
    asm volatile("gander_begin" ::: "memory");                \
    __VA_ARGS__();                                            \
  }
#define MSL_END_FILE(id)

#define MSL_GLOBAL __attribute__((address_space(1)))
#define MSL_SHARED __attribute__((address_space(3)))
#define MSL_PARAMETER __attribute__((address_space(101)))

// The functions of C's library, which this target lacks, within three units of the last place: the
// processor's approximate instructions, kept to arguments for which they are that exact.
namespace msl {

MSL_FUNCTION float exp2(float x) {
  return __nvvm_ex2_approx_f(x);
}

// exp(x) = 2^n exp(r) with n = round(x / ln 2), |r| <= ln 2 / 2; ln 2 in two parts.
MSL_FUNCTION float exp(float x) {
  const float bounded = x < -104.0f ? -104.0f : x > 89.0f ? 89.0f : x;
  const float n = __builtin_rintf(bounded * 1.44269504f);
  const float r = __builtin_fmaf(n, -1.42860677e-6f, __builtin_fmaf(n, -0.693145752f, bounded));
  // 2^n in two steps, since 2^128 is no float.
  return __nvvm_ex2_approx_f(r * 1.44269504f) * 2.0f * __nvvm_ex2_approx_f(n - 1.0f);
}

// log(m 2^e) = e ln 2 + 2 artanh(s), s = (m - 1) / (m + 1), with m in [2/3, 4/3).
MSL_FUNCTION float log(float x) {
  if (!(x > 0.0f)) return x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
  if (x == __builtin_inff()) return x;
  float scale = 0.0f;
  if (x < 1.17549435e-38f) {
    x *= 8388608.0f;
    scale = -23.0f;
  }
  const uint bits = __builtin_bit_cast(uint, x);
  const int exponent = int(bits - 0x3f2aaaabu) >> 23;
  const float m = __builtin_bit_cast(float, bits - (uint(exponent) << 23));
  const float s = (m - 1.0f) / (m + 1.0f), q = s * s;
  const float series =
      q * (0.666666667f + q * (0.4f + q * (0.285714286f + q * (0.222222222f + q * 0.181818182f))));
  return __builtin_fmaf(float(exponent) + scale, 0.693147181f, s * (2.0f + series));
}
MSL_FUNCTION float log2(float x) {
  return log(x) * 1.44269504f;
}
MSL_FUNCTION float pow(float x, float y) {
  return y == 0.0f ? 1.0f : exp(y * log(x));
}

// A continued fraction near zero, where the exponentials would cancel.
MSL_FUNCTION float tanh(float x) {
  const float size = __builtin_fabsf(x), q = x * x;
  if (size < 0.5f) {
    return x * (945.0f + q * (105.0f + q)) / (945.0f + q * (420.0f + q * 15.0f));
  }
  return __builtin_copysignf(1.0f - 2.0f / (exp(2.0f * size) + 1.0f), x);
}

MSL_FUNCTION float sin(float x) {
  return __nvvm_sin_approx_f(x);
}
MSL_FUNCTION float cos(float x) {
  return __nvvm_cos_approx_f(x);
}

}  // namespace msl

#define MSL_EXP_(x) msl::exp(x)
#define MSL_EXP2_(x) msl::exp2(x)
#define MSL_LOG_(x) msl::log(x)
#define MSL_LOG2_(x) msl::log2(x)
#define MSL_SIN_(x) msl::sin(x)
#define MSL_COS_(x) msl::cos(x)
#define MSL_TANH_(x) msl::tanh(x)
#define MSL_POW_(x, y) msl::pow(x, y)
