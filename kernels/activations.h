#pragma once

// The functions between matrices. The precise variants: fast tanh and exp are off by more than the
// rest of a stage, and near its ends fast tanh overflows.
static inline float sigmoid(float x) {
  return 1.0f / (1.0f + precise::exp(-x));
}

static inline float squared_relu(float x) {
  const float positive = max(x, 0.0f);
  return positive * positive;
}

// w of the recurrence, in (0.5452, 1): exp(-e^-0.5 sigmoid(x)).
static inline float decay(float x) {
  return precise::exp(-0.606531f * sigmoid(x));
}
