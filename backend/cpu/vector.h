#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Sixteen floats, whatever the registers at hand hold: one of AVX-512, two of AVX2, four of SSE or
// NEON. The width is fixed so that every sum has the same order everywhere.
// Everything has internal linkage: files for different instruction sets include this.
namespace gander {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kRegisterLanes = 16;
#elif defined(__AVX__)
constexpr std::size_t kRegisterLanes = 8;
#else
constexpr std::size_t kRegisterLanes = 4;
#endif
constexpr std::size_t kLanes = 16;
constexpr std::size_t kParts = kLanes / kRegisterLanes;

using Register = float __attribute__((vector_size(kRegisterLanes * sizeof(float))));
using Bits = unsigned __attribute__((vector_size(kRegisterLanes * sizeof(unsigned))));

struct Floats {
  Register part[kParts];
};

template <typename Function>
inline Floats each_part(Function function) {
  Floats result;
  for (std::size_t i = 0; i < kParts; ++i) result.part[i] = function(i);
  return result;
}

inline Floats fill(float value) {
  // Subtracting zero changes no value, so compilers leave only the broadcast; adding it does (-0).
  return each_part([&](std::size_t) { return value - Register{}; });
}
inline Floats operator+(const Floats& a, const Floats& b) {
  return each_part([&](std::size_t i) { return a.part[i] + b.part[i]; });
}
inline Floats operator-(const Floats& a, const Floats& b) {
  return each_part([&](std::size_t i) { return a.part[i] - b.part[i]; });
}
inline Floats operator*(const Floats& a, const Floats& b) {
  return each_part([&](std::size_t i) { return a.part[i] * b.part[i]; });
}
inline Floats operator/(const Floats& a, const Floats& b) {
  return each_part([&](std::size_t i) { return a.part[i] / b.part[i]; });
}
inline Floats& operator+=(Floats& a, const Floats& b) {
  return a = a + b;
}
inline Floats operator+(const Floats& a, float b) {
  return a + fill(b);
}
inline Floats operator-(const Floats& a, float b) {
  return a - fill(b);
}
inline Floats operator*(const Floats& a, float b) {
  return a * fill(b);
}
inline Floats operator+(float a, const Floats& b) {
  return fill(a) + b;
}
inline Floats operator-(float a, const Floats& b) {
  return fill(a) - b;
}
inline Floats operator*(float a, const Floats& b) {
  return fill(a) * b;
}
inline Floats operator/(float a, const Floats& b) {
  return fill(a) / b;
}

// a * b + c with one rounding where the processor has it. Compilers fuse a product and a sum in one
// place and not in another: sums that must have the same bits in two kernels are written with this.
inline Floats fused(const Floats& a, const Floats& b, const Floats& c) {
  return each_part([&](std::size_t i) -> Register {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a.part[i], b.part[i], c.part[i]);
#elif defined(__FMA__)
    return _mm256_fmadd_ps(a.part[i], b.part[i], c.part[i]);
#elif defined(__aarch64__)
    return vfmaq_f32(c.part[i], a.part[i], b.part[i]);
#else
    return a.part[i] * b.part[i] + c.part[i];
#endif
  });
}

inline Floats larger(const Floats& a, float b) {
  return each_part([&](std::size_t i) {
    const Register other = b - Register{};
    return a.part[i] > other ? a.part[i] : other;
  });
}
inline Floats smaller(const Floats& a, float b) {
  return each_part([&](std::size_t i) {
    const Register other = b - Register{};
    return a.part[i] < other ? a.part[i] : other;
  });
}

// Register by register: compilers keep a Floats in registers only if no copy treats it as memory.
inline Floats load(const float* data) {
  return each_part([&](std::size_t i) {
    Register part;
    std::memcpy(&part, data + i * kRegisterLanes, sizeof part);
    return part;
  });
}

// The first `count` < 16 floats; zeros after them.
inline Floats load_part(const float* data, std::size_t count) {
  float padded[kLanes] = {};
  std::memcpy(padded, data, count * sizeof(float));
  return load(padded);
}

inline void store(float* data, const Floats& v) {
  for (std::size_t i = 0; i < kParts; ++i) {
    const Register part = v.part[i];
    std::memcpy(data + i * kRegisterLanes, &part, sizeof part);
  }
}

inline void store_part(float* data, const Floats& v, std::size_t count) {
  float padded[kLanes];
  store(padded, v);
  std::memcpy(data, padded, count * sizeof(float));
}

// Lane i is lane i + Distance of a, round the end.
template <std::size_t Distance, std::size_t... I>
inline Register rotate(Register a, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, a, ((I + Distance) % kRegisterLanes)...);
}

// All lanes combined in a fixed tree: i with i + 8, then + 4, + 2, + 1.
template <typename Combine>
inline float fold_lanes(Floats v, Combine combine) {
  for (std::size_t half = kParts / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) v.part[i] = combine(v.part[i], v.part[i + half]);
  }
  constexpr auto kAll = std::make_index_sequence<kRegisterLanes>{};
  Register a = v.part[0];
  if constexpr (kRegisterLanes > 8) a = combine(a, rotate<8>(a, kAll));
  if constexpr (kRegisterLanes > 4) a = combine(a, rotate<4>(a, kAll));
  a = combine(a, rotate<2>(a, kAll));
  a = combine(a, rotate<1>(a, kAll));
  return a[0];
}

inline float sum_lanes(const Floats& v) {
  return fold_lanes(v, [](Register a, Register b) { return a + b; });
}
inline float largest_lane(const Floats& v) {
  return fold_lanes(v, [](Register a, Register b) { return a > b ? a : b; });
}

inline Floats absolute(const Floats& a) {
  return each_part([&](std::size_t i) { return a.part[i] > -a.part[i] ? a.part[i] : -a.part[i]; });
}

// e^x to about 2 units in the last place, x clamped to [-87, 88].
// x = n ln 2 + f with |f| <= ln 2 / 2; e^f by its Taylor polynomial of degree 7 (error < 1e-8).
inline Floats exponential(const Floats& argument) {
  constexpr float kRound = 0x1.8p23F;  // adding it leaves the nearest integer in the low bits
  const Floats x = smaller(larger(argument, -87.0F), 88.0F);
  const Floats shifted = x * 0x1.715476p+0F + kRound;
  const Floats n = shifted - kRound;
  const Floats f = (x - n * 0x1.62e4p-1F) - n * 0x1.7f7d1cp-20F;
  Floats p = fill(1.0F / 5040);
  p = p * f + 1.0F / 720;
  p = p * f + 1.0F / 120;
  p = p * f + 1.0F / 24;
  p = p * f + 1.0F / 6;
  p = p * f + 0.5F;
  p = p * f + 1.0F;
  p = p * f + 1.0F;
  // 2^n: n + 127 moved into the exponent field.
  return each_part([&](std::size_t i) {
    const Bits power = (reinterpret_cast<Bits>(shifted.part[i]) + 127U) << 23U;
    return p.part[i] * reinterpret_cast<Register>(power);
  });
}

inline Floats sigmoid_of(const Floats& x) {
  return 1.0F / (1.0F + exponential(-1.0F * x));
}

// tanh x = 1 - 2 / (e^2x + 1): absolute error below 1e-7, which is what a matrix product sees.
inline Floats tanh_of(const Floats& x) {
  return 1.0F - 2.0F / (exponential(2.0F * x) + 1.0F);
}

// Calls function(get, put) for each sixteen of n floats and then for the rest, where get(data) and
// put(data, v) access the sixteen, or the rest with zeros after it.
template <typename Function>
inline void for_lanes(std::size_t n, Function function) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    function([i](const float* data) { return load(data + i); },
             [i](float* data, const Floats& v) { store(data + i, v); });
  }
  if (i < n) {
    const std::size_t rest = n - i;
    function([i, rest](const float* data) { return load_part(data + i, rest); },
             [i, rest](float* data, const Floats& v) { store_part(data + i, v, rest); });
  }
}

inline float dot(const float* a, const float* b, std::size_t n) {
  Floats sum = {};
  for_lanes(n, [&](auto get, auto) { sum += get(a) * get(b); });
  return sum_lanes(sum);
}

inline float sum(const float* a, std::size_t n) {
  Floats total = {};
  for_lanes(n, [&](auto get, auto) { total += get(a); });
  return sum_lanes(total);
}

}  // namespace
}  // namespace gander
