#pragma once

#include "sample_parameters.h"

// Logits as integers, so that neither NaN nor the order of a sum depends on how a compiler treats
// floats.

// A logit's place in the order of sampling: smaller is more probable. NaN and -infinity are the
// least finite logit, infinity the largest, -0 is 0.
static inline uint logit_key(uint bits) {
  const uint magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0xff7fffffu;
  if (magnitude == 0x7f800000u) bits -= 1u;
  if (magnitude == 0u) bits = 0u;
  return (bits & 0x80000000u) != 0u ? bits : bits ^ 0x7fffffffu;
}

static inline float logit_of_key(uint key) {
  return as_type<float>((key & 0x80000000u) != 0u ? key : key ^ 0x7fffffffu);
}

// After every logit.
constant constexpr uint kAbsent = 0xffffffffu;

// e^x for -88 <= x <= 0, to about 1 unit in the last place, 1 for 0; 0 below -87.7. The steps of
// engine/sampler.cpp: e^x = 2^n e^f with n = round(x / ln 2) and a Taylor polynomial of f.
static inline float exp_of_log(float x) {
  const float n = rint(x * 1.44269504f);
  const float f = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, x));  // ln 2 in two parts
  float p = 1.0f / 720.0f;
  p = fma(p, f, 1.0f / 120.0f);
  p = fma(p, f, 1.0f / 24.0f);
  p = fma(p, f, 1.0f / 6.0f);
  p = fma(p, f, 0.5f);
  p = fma(p, f, 1.0f);
  p = fma(p, f, 1.0f);
  return p * as_type<float>(uint(int(n) + 127) << 23);
}

// What is left to draw from, and how much of it a token is.
struct TokenWeights {
  float largest;  // logit
  float inverse_temperature;
  uint last_key, last_token;  // the last token that is left, in the order by key, then by token
  float least_weight;         // relative to the largest: min-p
  bool counts;                // measure a token as 1 instead of by its mass

  // Logarithm of the weight. In halves the difference of two logits is finite; below -1e4 of these
  // no temperature leaves a weight.
  float log_weight(uint key) const {
    const float difference = max(0.5f * logit_of_key(key) - 0.5f * largest, -1e4f);
    return max(difference * (2.0f * inverse_temperature), -88.0f);
  }

  // How far the logit is below the largest, in steps of 1/2048, up to 65535: there nothing weighs.
  uint distance(uint key) const {
    if (key == kAbsent) return 65535u;
    return min(uint(-2048.0f * log_weight(key)), 65535u);
  }

  // The weight in units of 2^-44: sums are exact, whatever their order. Less than half a unit is 0.
  // Also 0 for a token that is not left.
  ulong measure(uint key, uint token) const {
    if (key > last_key || (key == last_key && token > last_token) || key == kAbsent) return 0ul;
    const float weight = exp_of_log(log_weight(key));
    if (weight < least_weight) return 0ul;
    const ulong mass = ulong(rint(weight * float(1ul << GANDER_MASS_BITS)));
    return counts && mass > 0ul ? 1ul : mass;
  }
};
