#pragma once

#include <cstddef>
#include <cstring>

// Eight floats, whatever the registers at hand hold: one of AVX, two of SSE or NEON. The search
// for scales works on eight groups of weights at once, a lane each, so that its sums run along a
// lane and have the same order everywhere.
namespace gander {
namespace {

#if defined(__AVX__)
constexpr int kRegisterLanes = 8;
#else
constexpr int kRegisterLanes = 4;
#endif
constexpr int kLanes = 8;
constexpr int kParts = kLanes / kRegisterLanes;

using Register = float __attribute__((vector_size(kRegisterLanes * sizeof(float))));

struct Lanes {
  Register part[kParts];
};

template <typename Function>
[[gnu::always_inline]] inline Lanes each_part(Function function) {
  Lanes result;
  for (int i = 0; i < kParts; ++i) result.part[i] = function(i);
  return result;
}

[[gnu::always_inline]] inline Lanes fill(float value) {
  return each_part([&](int) { return Register{} + value; });
}
[[gnu::always_inline]] inline Lanes operator+(const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return a.part[i] + b.part[i]; });
}
[[gnu::always_inline]] inline Lanes operator-(const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return a.part[i] - b.part[i]; });
}
[[gnu::always_inline]] inline Lanes operator*(const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return a.part[i] * b.part[i]; });
}
[[gnu::always_inline]] inline Lanes operator/(const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return a.part[i] / b.part[i]; });
}
[[gnu::always_inline]] inline Lanes& operator+=(Lanes& a, const Lanes& b) {
  return a = a + b;
}

/// Lane by lane: a < b ? yes : no; `no` where one is not a number.
[[gnu::always_inline]] inline Lanes where_less(const Lanes& a, const Lanes& b, const Lanes& yes,
                                               const Lanes& no) {
  return each_part([&](int i) { return a.part[i] < b.part[i] ? yes.part[i] : no.part[i]; });
}
[[gnu::always_inline]] inline Lanes smaller(const Lanes& a, const Lanes& b) {
  return where_less(a, b, a, b);
}
[[gnu::always_inline]] inline Lanes larger(const Lanes& a, const Lanes& b) {
  return where_less(b, a, a, b);
}
[[gnu::always_inline]] inline Lanes magnitude(const Lanes& a) {
  return larger(a, fill(0) - a);
}
/// 1 / a, and 0 where a is 0.
[[gnu::always_inline]] inline Lanes inverse(const Lanes& a) {
  return each_part([&](int i) {
    const Register zero = {};
    const Register one = zero + 1.0F;
    return a.part[i] == zero ? zero : one / (a.part[i] == zero ? one : a.part[i]);
  });
}
/// The nearest integer; a tie goes to the even one. |a| < 2^22.
[[gnu::always_inline]] inline Lanes nearest(const Lanes& a) {
  const Lanes shift = fill(0x1.8p23F);  // adding it leaves no bits below 1
  return (a + shift) - shift;
}

[[gnu::always_inline]] inline Lanes load(const float* data) {
  return each_part([&](int i) {
    Register part;
    std::memcpy(&part, data + i * kRegisterLanes, sizeof part);
    return part;
  });
}
[[gnu::always_inline]] inline void store(float* data, const Lanes& a) {
  for (int i = 0; i < kParts; ++i) {
    const Register part = a.part[i];
    std::memcpy(data + i * kRegisterLanes, &part, sizeof part);
  }
}

}  // namespace
}  // namespace gander
