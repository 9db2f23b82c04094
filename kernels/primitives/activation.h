#pragma once

#include "../activations.h"
#include "parameters.h"

// What add_activate, activate and the products of matrices do with a value before they store it.
static inline float activated(float x, uint activation) {
  switch (activation) {
    case GANDER_ACTIVATION_TANH:
      return precise::tanh(x);
    case GANDER_ACTIVATION_SIGMOID:
      return sigmoid(x);
    case GANDER_ACTIVATION_SQUARED_RELU:
      return squared_relu(x);
    case GANDER_ACTIVATION_EXP:
      return precise::exp(x);
    default:
      return x;
  }
}
