#pragma once

#include <cstdint>

#include "backend/cpu/vector.h"
#include "base/half.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

// Sixty-four unsigned bytes, and sixteen 32-bit sums of products of four of them: the integer dot
// product at the heart of quantised weights. A lane holds four weights of a line (packed.h); the
// activations' four bytes are the same for all lanes. Sums of integers are exact, so every
// instruction set gives the same result.
//   add_products       for weights of up to six bits, add_wide_products for all eight
//   shift<N>           left by N bits, right for negative N; shift_right by a number that is no
//                      constant. Bits may come in from the next byte: mask what is wanted
//   widen              sixteen small numbers to floats
//   store_levels       sixteen floats that hold integers of 8 bits
//   nonzero_lanes      bit i is set when lane i of sixteen floats is not zero
// Internal linkage, as in vector.h.
namespace gander {
namespace {

#if defined(__AVX512VNNI__)

struct Bytes {
  __m512i v;
};
struct Ints {
  __m512i v;
};
inline Bytes load_bytes(const std::uint8_t* p) {
  return {_mm512_loadu_si512(p)};
}
inline Bytes operator&(Bytes a, std::uint8_t mask) {
  return {_mm512_and_si512(a.v, _mm512_set1_epi8(static_cast<char>(mask)))};
}
inline Bytes operator|(Bytes a, Bytes b) {
  return {_mm512_or_si512(a.v, b.v)};
}
template <int N>
inline Bytes shift(Bytes a) {
  if constexpr (N >= 0) return {_mm512_slli_epi16(a.v, N)};
  return {_mm512_srli_epi16(a.v, -N)};
}
inline Bytes shift_right(Bytes a, unsigned bits) {
  return {_mm512_srl_epi16(a.v, _mm_cvtsi32_si128(static_cast<int>(bits)))};
}
inline Ints fill_ints(int value) {
  return {_mm512_set1_epi32(value)};
}
inline Ints add_products(Ints sum, Bytes weights, int x) {
  return {_mm512_dpbusd_epi32(sum.v, weights.v, _mm512_set1_epi32(x))};
}
inline Ints add_wide_products(Ints sum, Bytes weights, int x) {
  return add_products(sum, weights, x);
}
inline Floats to_floats(Ints a) {
  return {_mm512_cvtepi32_ps(a.v)};
}
inline Floats widen(const std::uint8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
inline Floats widen(const std::int8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
inline Floats widen_halves(const std::uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline std::uint32_t nonzero_lanes(const Floats& a) {
  return _mm512_cmp_ps_mask(a.part[0], _mm512_setzero_ps(), _CMP_NEQ_UQ);
}
inline void store_levels(std::int8_t* p, const Floats& a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.part[0])));
}

#elif defined(__AVX2__)

struct Bytes {
  __m256i v[2];
};
struct Ints {
  __m256i v[2];
};

inline Bytes load_bytes(const std::uint8_t* p) {
  const auto* source = reinterpret_cast<const __m256i*>(p);
  return {{_mm256_loadu_si256(source), _mm256_loadu_si256(source + 1)}};
}
inline Bytes operator&(const Bytes& a, std::uint8_t mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {{_mm256_and_si256(a.v[0], m), _mm256_and_si256(a.v[1], m)}};
}
inline Bytes operator|(const Bytes& a, const Bytes& b) {
  return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
}
template <int N>
inline Bytes shift(const Bytes& a) {
  if constexpr (N >= 0) return {{_mm256_slli_epi16(a.v[0], N), _mm256_slli_epi16(a.v[1], N)}};
  return {{_mm256_srli_epi16(a.v[0], -N), _mm256_srli_epi16(a.v[1], -N)}};
}
inline Bytes shift_right(const Bytes& a, unsigned bits) {
  const __m128i count = _mm_cvtsi32_si128(static_cast<int>(bits));
  return {{_mm256_srl_epi16(a.v[0], count), _mm256_srl_epi16(a.v[1], count)}};
}
inline Ints fill_ints(int value) {
  const __m256i v = _mm256_set1_epi32(value);
  return {{v, v}};
}
#ifdef __AVXVNNI__
inline Ints add_products(const Ints& sum, const Bytes& weights, int x) {
  const __m256i value = _mm256_set1_epi32(x);
  return {{_mm256_dpbusd_avx_epi32(sum.v[0], weights.v[0], value),
           _mm256_dpbusd_avx_epi32(sum.v[1], weights.v[1], value)}};
}
inline Ints add_wide_products(const Ints& sum, const Bytes& weights, int x) {
  return add_products(sum, weights, x);
}
#else
// Products of pairs are added in 16 bits, which holds 2 * 63 * 127: weights of up to six bits.
inline Ints add_scaled_products(const Ints& sum, const Bytes& weights, int x, short scale) {
  const __m256i value = _mm256_set1_epi32(x);
  const __m256i factor = _mm256_set1_epi16(scale);
  Ints result;
  for (int i = 0; i < 2; ++i) {
    const __m256i pairs = _mm256_maddubs_epi16(weights.v[i], value);
    result.v[i] = _mm256_add_epi32(sum.v[i], _mm256_madd_epi16(pairs, factor));
  }
  return result;
}
inline Ints add_products(const Ints& sum, const Bytes& weights, int x) {
  return add_scaled_products(sum, weights, x, 1);
}
inline Ints add_wide_products(const Ints& sum, const Bytes& weights, int x) {
  const Ints low = add_scaled_products(sum, weights & 15, x, 1);
  return add_scaled_products(low, shift<-4>(weights) & 15, x, 16);
}
#endif
inline Floats to_floats(const Ints& a) {
  return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}};
}
inline Floats widen(const std::uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return to_floats({{_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))}});
}
inline Floats widen(const std::int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return to_floats({{_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))}});
}
inline Floats widen_halves(const std::uint16_t* p) {
  const auto* source = reinterpret_cast<const __m128i*>(p);
  return {{_mm256_cvtph_ps(_mm_loadu_si128(source)), _mm256_cvtph_ps(_mm_loadu_si128(source + 1))}};
}
inline std::uint32_t nonzero_lanes(const Floats& a) {
  const __m256 zero = _mm256_setzero_ps();
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.part[0], zero, _CMP_NEQ_UQ));
  const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.part[1], zero, _CMP_NEQ_UQ));
  return static_cast<std::uint32_t>(low | (high << 8));
}
inline void store_levels(std::int8_t* p, const Floats& a) {
  const __m256i low = _mm256_cvtps_epi32(a.part[0]);
  const __m256i high = _mm256_cvtps_epi32(a.part[1]);
  // Packing works within halves of 128 bits: 0 2 1 3 becomes 0 1 2 3.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

#else

#ifdef __ARM_FEATURE_DOTPROD
struct Bytes {
  uint8x16_t v[4];
};
struct Ints {
  int32x4_t v[4];
};

template <typename Result, typename Function>
inline Result each_quarter(Function function) {
  return {{function(0), function(1), function(2), function(3)}};
}
inline Bytes load_bytes(const std::uint8_t* p) {
  return each_quarter<Bytes>([&](int i) { return vld1q_u8(p + 16 * i); });
}
inline Bytes operator&(const Bytes& a, std::uint8_t mask) {
  return each_quarter<Bytes>([&](int i) { return vandq_u8(a.v[i], vdupq_n_u8(mask)); });
}
inline Bytes operator|(const Bytes& a, const Bytes& b) {
  return each_quarter<Bytes>([&](int i) { return vorrq_u8(a.v[i], b.v[i]); });
}
template <int N>
inline Bytes shift(const Bytes& a) {
  return each_quarter<Bytes>([&](int i) { return vshlq_u8(a.v[i], vdupq_n_s8(N)); });
}
inline Bytes shift_right(const Bytes& a, unsigned bits) {
  const int8x16_t count = vdupq_n_s8(static_cast<std::int8_t>(-static_cast<int>(bits)));
  return each_quarter<Bytes>([&](int i) { return vshlq_u8(a.v[i], count); });
}
inline Ints fill_ints(int value) {
  return each_quarter<Ints>([&](int) { return vdupq_n_s32(value); });
}
inline Ints add_products(const Ints& sum, const Bytes& weights, int x) {
  const int8x16_t value = vreinterpretq_s8_s32(vdupq_n_s32(x));
  return each_quarter<Ints>(
      [&](int i) { return vdotq_s32(sum.v[i], vreinterpretq_s8_u8(weights.v[i]), value); });
}
// Eight-bit weights do not fit the signed operand: their two nibbles do.
inline Ints add_wide_products(const Ints& sum, const Bytes& weights, int x) {
  const Ints high = add_products(fill_ints(0), shift<-4>(weights), x);
  const Ints low = add_products(sum, weights & 15, x);
  return each_quarter<Ints>([&](int i) { return vaddq_s32(low.v[i], vshlq_n_s32(high.v[i], 4)); });
}
inline Floats to_floats(const Ints& a) {
  return each_part([&](std::size_t i) { return (Register)vcvtq_f32_s32(a.v[i]); });
}
#else
struct Bytes {
  std::uint8_t v[64];
};
struct Ints {
  std::int32_t v[kLanes];
};

inline Bytes load_bytes(const std::uint8_t* p) {
  Bytes a;
  std::memcpy(a.v, p, sizeof a.v);
  return a;
}
inline Bytes operator&(const Bytes& a, std::uint8_t mask) {
  Bytes result;
  for (int i = 0; i < 64; ++i) result.v[i] = static_cast<std::uint8_t>(a.v[i] & mask);
  return result;
}
inline Bytes operator|(const Bytes& a, const Bytes& b) {
  Bytes result;
  for (int i = 0; i < 64; ++i) result.v[i] = static_cast<std::uint8_t>(a.v[i] | b.v[i]);
  return result;
}
template <int N>
inline Bytes shift(const Bytes& a) {
  Bytes result;
  for (int i = 0; i < 64; ++i) {
    result.v[i] = static_cast<std::uint8_t>(N >= 0 ? a.v[i] << (N & 7) : a.v[i] >> (-N & 7));
  }
  return result;
}
inline Bytes shift_right(const Bytes& a, unsigned bits) {
  Bytes result;
  for (int i = 0; i < 64; ++i) result.v[i] = static_cast<std::uint8_t>(a.v[i] >> bits);
  return result;
}
inline Ints fill_ints(int value) {
  Ints result;
  for (std::int32_t& lane : result.v) lane = value;
  return result;
}
inline Ints add_products(const Ints& sum, const Bytes& weights, int x) {
  std::int8_t values[4];
  std::memcpy(values, &x, sizeof values);
  Ints result = sum;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    for (std::size_t j = 0; j < 4; ++j) result.v[lane] += weights.v[4 * lane + j] * values[j];
  }
  return result;
}
inline Ints add_wide_products(const Ints& sum, const Bytes& weights, int x) {
  return add_products(sum, weights, x);
}
inline Floats to_floats(const Ints& a) {
  float lanes[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(a.v[i]);
  return load(lanes);
}
#endif

template <typename Number>
inline Floats widen_lanes(const Number* p) {
  float lanes[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(p[i]);
  return load(lanes);
}
inline Floats widen(const std::uint8_t* p) {
  return widen_lanes(p);
}
inline Floats widen(const std::int8_t* p) {
  return widen_lanes(p);
}
inline Floats widen_halves(const std::uint16_t* p) {
  float lanes[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) lanes[i] = half_to_float(p[i]);
  return load(lanes);
}
inline std::uint32_t nonzero_lanes(const Floats& a) {
  float lanes[kLanes];
  store(lanes, a);
  std::uint32_t mask = 0;
  for (std::uint32_t i = 0; i < kLanes; ++i) mask |= static_cast<std::uint32_t>(lanes[i] != 0) << i;
  return mask;
}
inline void store_levels(std::int8_t* p, const Floats& a) {
  float lanes[kLanes];
  store(lanes, a);
  for (std::size_t i = 0; i < kLanes; ++i) p[i] = static_cast<std::int8_t>(lanes[i]);
}

#endif

inline Floats widen_bfloats(const std::uint16_t* p) {
  float values[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) values[i] = bfloat16_to_float(p[i]);
  return load(values);
}

}  // namespace
}  // namespace gander
