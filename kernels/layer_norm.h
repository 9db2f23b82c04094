#pragma once

#include "group.h"

// What stages do to a vector of the model's width in thread-group memory before its rows are
// multiplied. A thread works on the same elements in each of these functions, so that they follow
// each other without a barrier; one is needed before other threads' elements are read.
//
// Element is float4 where the width is a multiple of four, else float. Every function is there
// twice: for elements, and choosing between the two.

static inline float sum_of(float value) {
  return value;
}
static inline float sum_of(float4 value) {
  return (value.x + value.y) + (value.z + value.w);
}

template <typename Element>
static inline uint width_elements() {
  return kWidth * 4u / uint(sizeof(Element));
}
static inline bool width_has_quads() {
  return kWidth % 4u == 0u;
}

template <typename Element>
static inline void load_elements(device const Element* from, threadgroup Element* x,
                                 GroupThread self) {
  for (uint i = self.index; i < width_elements<Element>(); i += self.count) x[i] = from[i];
}

template <typename Element>
static inline void store_elements(threadgroup const Element* x, device Element* to,
                                  GroupThread self) {
  for (uint i = self.index; i < width_elements<Element>(); i += self.count) to[i] = x[i];
}

// x = (x - mean) / sqrt(variance + epsilon) * weight + bias, with the biased variance. Mean first,
// then the squared deviations: one pass over the squares would cancel.
template <typename Element>
static inline void normalize_elements(threadgroup Element* x, device const Element* weight,
                                      device const Element* bias, threadgroup float* partials,
                                      GroupThread self) {
  const uint count = width_elements<Element>();
  float sum = 0.0f;
  for (uint i = self.index; i < count; i += self.count) sum += sum_of(x[i]);
  const float mean = group_sum(sum, partials, self) / float(kWidth);
  float squares = 0.0f;
  for (uint i = self.index; i < count; i += self.count) {
    const Element deviation = x[i] - mean;
    squares += sum_of(deviation * deviation);
  }
  const float variance = group_sum(squares, partials, self) / float(kWidth);
  const float scale = precise::rsqrt(variance + kNormEpsilon);
  for (uint i = self.index; i < count; i += self.count) {
    x[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  }
}

// x = x + (previous - x) mix
template <typename Element>
static inline void shift_elements(threadgroup Element* x, device const Element* previous,
                                  device const Element* mix, GroupThread self) {
  for (uint i = self.index; i < width_elements<Element>(); i += self.count) {
    x[i] = x[i] + (previous[i] - x[i]) * mix[i];
  }
}

static inline void load_vector(device const float* from, threadgroup float* x, GroupThread self) {
  if (width_has_quads()) {
    load_elements((device const float4*)from, (threadgroup float4*)x, self);
  } else {
    load_elements(from, x, self);
  }
}

static inline void store_vector(threadgroup const float* x, device float* to, GroupThread self) {
  if (width_has_quads()) {
    store_elements((threadgroup const float4*)x, (device float4*)to, self);
  } else {
    store_elements(x, to, self);
  }
}

// `norm` is [2][C], weight and bias; `partials` has a float for each SIMD group.
static inline void normalize_vector(threadgroup float* x, device const float* norm,
                                    threadgroup float* partials, GroupThread self) {
  if (width_has_quads()) {
    normalize_elements((threadgroup float4*)x, (device const float4*)norm,
                       (device const float4*)(norm + kWidth), partials, self);
  } else {
    normalize_elements(x, norm, norm + kWidth, partials, self);
  }
}

static inline void shift_vector(threadgroup float* x, device const float* previous,
                                device const float* mix, GroupThread self) {
  if (width_has_quads()) {
    shift_elements((threadgroup float4*)x, (device const float4*)previous,
                   (device const float4*)mix, self);
  } else {
    shift_elements(x, previous, mix, self);
  }
}
