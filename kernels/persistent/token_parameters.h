#pragma once

// What the token kernel is told, for the kernel and, inside namespace gander::gpu where `uint` is
// 32 bits, for the planner in C++. All weights lie in one buffer; offsets into it count 16 bytes.

#define GANDER_TOKEN_THREADS 512
#define GANDER_TOKEN_WARPS 16
#define GANDER_TOKEN_MIN_BLOCKS 7    // one for each matrix of stage A
#define GANDER_TOKEN_MAX_WIDTH 4096  // two quads of channels a thread
#define GANDER_TOKEN_MAX_SLOTS 8     // of a warp's ring
#define GANDER_VALUE_TILE 256        // channels of a tile of stage E
#define GANDER_TOKEN_MAX_ITEMS 48    // of 16 rows in a segment
#define GANDER_VALUE_TYPES 16        // GANDER_WEIGHT_TYPES from this bit on: of ffn value matrices

// Which matrix a run of rows is of: its input and what becomes of the products.
#define GANDER_ROLE_RECEPTANCE 0
#define GANDER_ROLE_W1 1
#define GANDER_ROLE_KEY 2
#define GANDER_ROLE_VALUE 3
#define GANDER_ROLE_A1 4
#define GANDER_ROLE_G1 5
#define GANDER_ROLE_V1 6
#define GANDER_ROLE_OUTPUT 7
#define GANDER_ROLE_FFN_KEY 8
#define GANDER_ROLE_HEAD 9

// A run of rows of one matrix that one block multiplies, in the order of the token. Float weights:
// an item is a row, in one or more pieces, and warps take items in turn. Quantised ones: an item is
// 16 rows (the last ones may be padding), its pieces are tiles, and every warp takes a run of the
// segment's tiles.
struct Segment {
  uint items;
  uint rows;        // without padding
  uint row_blocks;  // blocks of 256 columns in a row
  uint tiles;       // of quantised rows: of the first item from tile first_tile on
  uint first_tile;
  uint piece_blocks;  // of a row of floats in a piece: row_blocks, or fewer
  uint first_row;
  uint first_warp;  // the warp that takes the first row of floats
  uint type;        // GANDER_F32, ...
  uint role;
  uint stage;  // 5 layer + 0 (time mix in), 2 (time mix out), 3 (ffn key); 5 layers: the head
};

// What a warp copies at once. The pieces of a warp follow each other in the order of its items;
// those of the head come last.
struct Piece {
  uint offset;
  uint bytes;  // a multiple of 16
};

// Where the parts of a block begin, and of each of its warps: in the segments, and in the pieces.
// `head` is where what only the head needs begins.
struct BlockPlan {
  uint segments, head_segments, end_segments;
  uint pieces[GANDER_TOKEN_WARPS], head_pieces[GANDER_TOKEN_WARPS], end_pieces[GANDER_TOKEN_WARPS];
};

// A layer's weights that are not rows of segments: offsets of vectors as in kernels/README.md, and
// of matrices that are read where they are needed. The last one is the head's: only ln1 counts,
// which is ln_out.
struct LayerPlan {
  uint ln1, mix, vectors, ln2, ffn_mix;
  uint w2, a2, v2, g2;
  uint type_w2, type_a2, type_v2, type_g2;  // GANDER_F32, GANDER_F16 or GANDER_BF16
  uint value, type_value;                   // by hidden unit
};

struct TokenParameters {
  uint layers;
  uint slot_bytes;    // of a piece in the ring, a multiple of 16
  uint vector_bytes;  // of thread-group memory for a stage's vector
  uint value_slices;  // of the hidden units, in stage E
  uint has_head;      // 0: leaves the state only
  uint traced;        // 1: the first block notes when it begins each stage
};
