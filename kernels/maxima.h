#pragma once

// The head's largest logits. Unsigned integers in the order of the floats.
static inline uint ordered_bits(float value) {
  const uint bits = as_type<uint>(value);
  return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

// The larger logit, the smaller token of two equal ones; x is ordered_bits, y the token.
static inline uint2 larger(uint2 a, uint2 b) {
  return b.x > a.x || (b.x == a.x && b.y < a.y) ? b : a;
}
