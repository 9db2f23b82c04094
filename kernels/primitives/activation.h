#pragma once

#include "kernels/primitives/parameters.h"

// Metal's fast tanh overflows for large arguments; the precise one is bounded.
static inline float activated(float x, uint activation) {
  switch (activation) {
    case GANDER_ACTIVATION_TANH:
      return precise::tanh(x);
    case GANDER_ACTIVATION_SIGMOID:
      return 1.0f / (1.0f + precise::exp(-x));
    case GANDER_ACTIVATION_SQUARED_RELU:
      return x > 0.0f ? x * x : 0.0f;
    case GANDER_ACTIVATION_EXP:
      return precise::exp(x);
    default:
      return x;
  }
}
