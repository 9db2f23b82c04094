#pragma once

// What the kernels `sample` and `batch_sample` share with the host. It lies in device memory
// instead of being bound as constants: a recorded program stays as it is when settings change.
// Included by the kernels and, inside namespace gander::gpu where `uint` is 32 bits, by C++.

// Written by the host before a generation. Neutral values as in SamplerSettings.
struct SampleSettings {
  uint greedy;  // 1: the largest logit; nothing is drawn
  float inverse_temperature;
  uint top_k;                  // 0: off
  uint top_p_low, top_p_high;  // the share times 2^64, in two words; 0: off
  float min_p;
  uint penalizes;  // 0: the three penalties are neutral, and occurrences are not counted
  float repetition_penalty, presence_penalty, frequency_penalty, penalty_decay;
  uint bias_count;    // entries of `biases`
  uint maxima_count;  // groups of `head`; 0: it left no maxima
  uint ring_size;     // a power of 2; of `sample`
};

// Changes with every token.
struct SampleState {
  uint random_low, random_high;  // of SplitMix64
  float scale;                   // an occurrence count is counts[token] * scale
  uint seen_count;               // entries of `seen`
  uint position;                 // tokens sampled so far; the ring's entry is this modulo its size
};

// Sorted by token; biases of the same token are added in their order.
struct LogitBias {
  uint token;
  float bias;
};

// Of a sequence.
#define GANDER_MAX_BIASES 4096

// In `counts`, for tokens without a count.
#define GANDER_UNSEEN -1.0f     // may get one
#define GANDER_UNCOUNTED -2.0f  // never does: only spaces, tabs and digits

// Sums of masses must stay below 2^63.
#define GANDER_MASS_BITS 44
#define GANDER_MAX_SAMPLED_VOCABULARY (1 << 18)
