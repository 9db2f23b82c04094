// Metal's half for compilers that have none in C++: stored as binary16, rounded after every
// operation. A half with a half gives a half, with an integer a half, with a float a float.
#pragma once

#include "base/half.h"

#include <type_traits>

struct half {
  std::uint16_t bits_;

  half() = default;
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr half(T value) : bits_(gander::float_to_half(static_cast<float>(value))) {}
  constexpr operator float() const { return gander::half_to_float(bits_); }

  constexpr half operator-() const { return from_bits_(bits_ ^ 0x8000U); }
  constexpr half operator+() const { return *this; }
  template <class T>
  constexpr half& operator+=(T other) {
    return *this = half(float(*this) + float(other));
  }
  template <class T>
  constexpr half& operator-=(T other) {
    return *this = half(float(*this) - float(other));
  }
  template <class T>
  constexpr half& operator*=(T other) {
    return *this = half(float(*this) * float(other));
  }
  template <class T>
  constexpr half& operator/=(T other) {
    return *this = half(float(*this) / float(other));
  }

  static constexpr half from_bits_(std::uint32_t bits) {
    half result(0);
    result.bits_ = static_cast<std::uint16_t>(bits);
    return result;
  }
};

namespace msl_half_ {

// What half and T give together: T is a number.
template <class T>
using common = std::conditional_t<std::is_integral_v<T>, half, T>;

}  // namespace msl_half_

// A float sum, product or quotient of two halves, rounded to half, is the one rounded once: a
// float has more than twice the digits.
#define MSL_HALF_OPERATOR(op)                                                \
  constexpr half operator op(half a, half b) {                               \
    return half(float(a) op float(b));                                       \
  }                                                                          \
  template <class T>                                                         \
  requires std::is_arithmetic_v<T>                                           \
  constexpr msl_half_::common<T> operator op(half a, T b) {                  \
    return msl_half_::common<T>(float(a) op float(msl_half_::common<T>(b))); \
  }                                                                          \
  template <class T>                                                         \
  requires std::is_arithmetic_v<T>                                           \
  constexpr msl_half_::common<T> operator op(T a, half b) {                  \
    return msl_half_::common<T>(float(msl_half_::common<T>(a)) op float(b)); \
  }
MSL_HALF_OPERATOR(+)
MSL_HALF_OPERATOR(-)
MSL_HALF_OPERATOR(*)
MSL_HALF_OPERATOR(/)
#undef MSL_HALF_OPERATOR

#define MSL_HALF_COMPARISON(op)                \
  constexpr bool operator op(half a, half b) { \
    return float(a) op float(b);               \
  }                                            \
  template <class T>                           \
  requires std::is_arithmetic_v<T>             \
  constexpr bool operator op(half a, T b) {    \
    return float(a) op float(b);               \
  }                                            \
  template <class T>                           \
  requires std::is_arithmetic_v<T>             \
  constexpr bool operator op(T a, half b) {    \
    return float(a) op float(b);               \
  }
MSL_HALF_COMPARISON(<)
MSL_HALF_COMPARISON(>)
MSL_HALF_COMPARISON(<=)
MSL_HALF_COMPARISON(>=)
MSL_HALF_COMPARISON(==)
MSL_HALF_COMPARISON(!=)
#undef MSL_HALF_COMPARISON
