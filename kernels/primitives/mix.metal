#include <metal_stdlib>
using namespace metal;

#include "parameters.h"

// What mixes a token with its predecessor, and what the two halves of a layer keep for the next.

// mixed[t] = x[t] + (x[t - 1] - x[t]) ∘ mix; the row before the first is the state's `shift`.
kernel void token_shift(device const float* x [[buffer(0)]],
                        device const float* shift [[buffer(1)]],
                        device const float* mix [[buffer(2)]],
                        device float* mixed [[buffer(3)]],
                        constant ChunkParameters& parameters [[buffer(4)]],
                        uint i [[thread_position_in_grid]]) {
  const uint width = parameters.width;
  if (i >= parameters.tokens * width) return;
  const float previous = i < width ? shift[i] : x[i - width];
  mixed[i] = x[i] + (previous - x[i]) * mix[i % width];
}

// shift = the last row of x, then x = v: what channel mixing adds to the residual stream. A thread
// a channel, so that x is read before it is overwritten.
kernel void channel_mix_v7(device const float* v [[buffer(0)]],
                           device float* x [[buffer(1)]],
                           device float* shift [[buffer(2)]],
                           constant ChunkParameters& parameters [[buffer(3)]],
                           uint channel [[thread_position_in_grid]]) {
  const uint width = parameters.width;
  if (channel >= width) return;
  shift[channel] = x[(parameters.tokens - 1) * width + channel];
  for (uint t = 0; t < parameters.tokens; ++t) x[t * width + channel] = v[t * width + channel];
}
