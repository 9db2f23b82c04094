#include <metal_stdlib>
using namespace metal;

#include "activation.h"
#include "parameters.h"

// One value a thread: y is the result, read and written in place where an operation reads it.

// y = x
kernel void blit(device const float* x [[buffer(0)]],
                 device float* y [[buffer(1)]],
                 constant CountParameters& parameters [[buffer(2)]],
                 uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] = x[i];
}

// The same for vectors of whole quads that begin at multiples of 16 bytes.
kernel void blit_quads(device const float4* x [[buffer(0)]],
                       device float4* y [[buffer(1)]],
                       constant CountParameters& parameters [[buffer(2)]],
                       uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] = x[i];
}

// y = y + x
kernel void add(device const float* x [[buffer(0)]],
                device float* y [[buffer(1)]],
                constant BroadcastParameters& parameters [[buffer(2)]],
                uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] += x[i % parameters.period];
}

// y = y ∘ x
kernel void mul(device const float* x [[buffer(0)]],
                device float* y [[buffer(1)]],
                constant BroadcastParameters& parameters [[buffer(2)]],
                uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] *= x[i % parameters.period];
}

// y = scale y + bias
kernel void affine(device float* y [[buffer(0)]],
                   constant AffineParameters& parameters [[buffer(1)]],
                   uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] = y[i] * parameters.scale + parameters.bias;
}

// y = y + (x - y) ∘ factor: the value residual, where x is v of the first layer.
kernel void lerp(device const float* factor [[buffer(0)]],
                 device const float* x [[buffer(1)]],
                 device float* y [[buffer(2)]],
                 constant CountParameters& parameters [[buffer(3)]],
                 uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] += (x[i] - y[i]) * factor[i];
}

// y = activation(y)
kernel void activate(device float* y [[buffer(0)]],
                     constant ActivateParameters& parameters [[buffer(1)]],
                     uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) y[i] = activated(y[i], parameters.activation);
}

// y = activation(y + bias)
kernel void add_activate(device const float* bias [[buffer(0)]],
                         device float* y [[buffer(1)]],
                         constant AddActivateParameters& parameters [[buffer(2)]],
                         uint i [[thread_position_in_grid]]) {
  if (i < parameters.count) {
    y[i] = activated(y[i] + bias[i % parameters.period], parameters.activation);
  }
}
