#pragma once

// The small constants of the primitives, bound after a kernel's buffers. Included by the kernels
// and, inside namespace gander::gpu where `uint` is 32 bits, by C++.

// What a value becomes before it is stored.
#define GANDER_ACTIVATION_NONE 0
#define GANDER_ACTIVATION_TANH 1
#define GANDER_ACTIVATION_SIGMOID 2
#define GANDER_ACTIVATION_SQUARED_RELU 3
#define GANDER_ACTIVATION_EXP 4

// blit, lerp: arrays of equal size.
struct CountParameters {
  uint count;
};

// add, mul: the operand has `period` values and serves every `period` values of the result, as a
// vector of weights does for the rows of a chunk.
struct BroadcastParameters {
  uint count;
  uint period;
};

struct AffineParameters {
  uint count;
  float scale;
  float bias;
};

struct ActivateParameters {
  uint count;
  uint activation;
};

struct AddActivateParameters {
  uint count;
  uint period;
  uint activation;
};

// Groups of `size` neighbouring values: rows for layer_norm and softmax, heads for group_norm and
// l2_norm. `epsilon` joins the variance, or bounds the length from below; softmax has none.
struct GroupsParameters {
  uint groups;
  uint size;
  float epsilon;
};

// Rows of a chunk.
struct ChunkParameters {
  uint tokens;
  uint width;
};

// Rows of a chunk, each of `heads` times `head_size` values.
struct HeadsParameters {
  uint tokens;
  uint heads;
  uint head_size;
};

struct MatmulParameters {
  uint rows;
  uint columns;
  uint tokens;
  uint type;  // of the matrix: GANDER_F32, ...
  uint activation;
};

// The ffn value matrix, stored by hidden unit: its widths are function constants.
struct SparseMatmulParameters {
  uint tokens;
  uint type;
};

struct LookupParameters {
  uint columns;
  uint type;
};

struct SumWordsParameters {
  uint vectors;  // of 16 bytes, in a thread group's piece
};
