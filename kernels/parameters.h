#pragma once

// The small constants of the fused stages, bound after a kernel's buffers. Included by the kernels
// and, inside namespace gander::gpu where `uint` is 32 bits, by C++.

// A matrix [rows, columns] in a dispatch over several: its type (GANDER_F32, ...).
struct TimeMixInParameters {
  uint rows_per_group;  // of one matrix; a multiple of 4
  uint type_receptance, type_key, type_value;
  uint type_w1, type_a1, type_v1, type_g1;
  uint has_value_mix;  // 0 in layer 0: there are no rows of v1
};

struct WkvParameters {
  uint type_w2, type_a2, type_v2, type_g2;
  uint has_value_mix;  // 0 in layer 0: v becomes v_first
};

// Rows of one matrix: stages C and D, the head.
struct RowsParameters {
  uint rows_per_group;  // a multiple of 4
  uint type;
};

// Stage E. Hidden units are cut into `slices` of whole blocks of 256 (the last may be shorter, or
// empty); a group takes one tile of 256 channels and one slice.
struct FfnValueParameters {
  uint type;
  uint slices;
  uint adds_up;  // 1: the last group of a tile adds the slices to x; 0: add_slices does
};

struct AddSlicesParameters {
  uint slices;
};

struct EmbedParameters {
  uint type;
};

// Floats of thread-group memory (scratch) that a kernel needs, for C++ to give and kernels to
// divide up: the vector of C that its rows are multiplied by, and a place for each SIMD group's
// sums.
#define GANDER_ROUND_4(count) (((count) + 3) / 4 * 4)
#define GANDER_SUMS 32
#define GANDER_VECTOR_SCRATCH(width) (GANDER_ROUND_4(width) + GANDER_SUMS)
#define GANDER_EMBED_SCRATCH(width) GANDER_VECTOR_SCRATCH(width)
#define GANDER_TIME_MIX_IN_SCRATCH(width) GANDER_VECTOR_SCRATCH(width)
#define GANDER_TIME_MIX_OUT_SCRATCH(width) GANDER_ROUND_4(width)
#define GANDER_FFN_KEY_SCRATCH(width) GANDER_VECTOR_SCRATCH(width)
// A SIMD group's maximum is two words.
#define GANDER_HEAD_SCRATCH(width) (GANDER_VECTOR_SCRATCH(width) + GANDER_SUMS)
// The four low-rank vectors, and five vectors of the head.
#define GANDER_WKV_SCRATCH(head_size, w, a, v, g)                                  \
  (GANDER_ROUND_4(w) + GANDER_ROUND_4(a) + GANDER_ROUND_4(v) + GANDER_ROUND_4(g) + \
   5 * GANDER_ROUND_4(head_size))
// A tile of 256 channels for each SIMD group.
#define GANDER_FFN_VALUE_SCRATCH(threads) ((threads) / 32 * 256)
