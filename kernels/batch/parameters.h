#pragma once

// The small constants of the batch kernels. Included by the kernels and, inside namespace
// gander::gpu where `uint` is 32 bits, by C++.

// What a step is, in a buffer that is written before each: how many of everything there are, as
// far as a program was recorded for more.
#define GANDER_COUNT_ROWS 0       // T: tokens of all sequences
#define GANDER_COUNT_SEQUENCES 1  // B
#define GANDER_COUNT_LOGITS 2     // rows that want logits

#define GANDER_NOT_SAMPLED 0xffffffffu  // in place of a slot

// A row of the step: a token of a sequence. Rows of a sequence follow each other.
struct BatchRow {
  uint token;
  uint slot;      // of the sequence's state
  uint is_first;  // of the sequence in this step: its predecessor is in the state
  uint is_last;
};

struct BatchSequence {
  uint slot;
  uint first;  // row
  uint rows;   // at least one
};

// LayerNorm and token shift of every row, and what stages before left undone: sums to be added to
// x, shift states to be kept.
struct BatchMixParameters {
  uint slices;         // of sums to be added to x; 0: they are in x
  uint slice_stride;   // floats
  uint mixes;          // vectors of the lerp, and matrices written: 6 or 1
  uint matrix_stride;  // halves
  uint row_stride;     // halves
  uint keeps;          // 1: `kept` of a sequence's last row becomes a shift state
  uint slot_floats;    // of a sequence's state
  uint singles;        // 1: every sequence has one row, whose shift state is replaced at once
};

struct BatchKeepParameters {
  uint slot_floats;
};

struct BatchHeadRowsParameters {
  uint slices, slice_stride;
  uint row_stride;  // halves
};

// A matrix of weights in a product over several. The input is [T][input_stride] halves, the output
// [T][output_stride] floats, or halves where an activation follows.
struct BatchMatrix {
  uint first_tile;  // tiles of 64 rows or more of the matrices before, slices counted
  uint row_tiles;
  uint slices;  // that the columns are cut into, each with an output of its own
  uint type;
  uint rows, columns;
  uint input, input_stride;  // in halves; the stride a multiple of 64, zeros after the columns
  uint output, output_stride, slice_stride;
  uint activation;
};
#define GANDER_BATCH_FLOATS 0  // no activation, 32 bits
#define GANDER_BATCH_HALVES 1  // no activation
#define GANDER_BATCH_TANH 2    // halves, as all that follow
#define GANDER_BATCH_SIGMOID 3
#define GANDER_BATCH_SQUARED_RELU 4  // relu² times GANDER_HIDDEN_SCALE
#define GANDER_BATCH_ADD 5           // to floats that are there
#define GANDER_BATCH_MATRICES 7

// relu² of large sums would not fit a half: it is kept 64 times too small, up to 4.19 million;
// what is smaller than 0.004 loses digits that no sum shows. The product with the value matrix
// undoes it.
#define GANDER_HIDDEN_SCALE 0.015625f

struct BatchMultiplyParameters {
  uint count;     // number of the count of rows
  uint matrices;  // first ones of `matrix`
  float scale;    // of the sums
  BatchMatrix matrix[GANDER_BATCH_MATRICES];
};

struct BatchScanParameters {
  uint has_value_mix;  // 0 in layer 0: v becomes v_first
  uint matrix_stride;  // floats between two of r, k, v, and of the four products
  uint slot_floats;
  uint parts;      // groups that share a head
  uint sequences;  // of a group, one after the other: where each has one token
};

struct BatchGateParameters {
  uint row_stride;  // halves of a row of the output
};

// Columns of a step of a product; rows of weights, and of tokens, of a tile are in the kernels'
// names.
#define GANDER_BATCH_COLUMNS 64
#define GANDER_BATCH_BLOCK_ROWS 64
// Vectors of a channel that the recurrence takes: w, kk, b, k, v, r.
#define GANDER_BATCH_OPERANDS 6
// Floats of its thread-group memory: two times eight tokens of heads of 64, or two of 256.
#define GANDER_SCAN_SCRATCH (2 * GANDER_BATCH_OPERANDS * 512)
// Of a row of batch_mix a thread has up to four quads of channels.
#define GANDER_MIX_QUADS 4
// Inputs it makes of a row: of r, w, k, v, a, g, or one.
#define GANDER_MOST_MIXES 6

// Sums of a product that are added up where they are read, each over a part of its columns.
#define GANDER_MOST_SLICES 4
