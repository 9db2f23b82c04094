#pragma once

// Numbers of the function constants, for Metal and for C++. A pipeline is compiled for one model's
// widths, so that loops have known bounds and types that do not occur leave no code.
#define GANDER_WIDTH 0          // C
#define GANDER_HEADS 1          // H
#define GANDER_HEAD_SIZE 2      // N = C / H, at most GANDER_MAX_HEAD_SIZE
#define GANDER_FFN_WIDTH 3      // F
#define GANDER_VOCAB_SIZE 4     // V
#define GANDER_RANK_W 5         // low-rank width of the decay
#define GANDER_RANK_A 6         // of the in-context learning rate
#define GANDER_RANK_V 7         // of the value residual
#define GANDER_RANK_G 8         // of the gate
#define GANDER_NORM_EPSILON 9   // a float: of LayerNorms; the GroupNorm's is N times this
#define GANDER_WEIGHT_TYPES 10  // bit t is set when a matrix of the dispatch has type t, see below
#define GANDER_CONSTANT_COUNT 11

// Of kernels/persistent only: slots of a warp's ring.
#define GANDER_RING_SLOTS 11
// What NVIDIA's compiler has to know to give threads their registers: how many a group has, and how
// many groups a core should hold at once (1 where it is not given).
#define GANDER_KERNEL_THREADS 12
#define GANDER_KERNEL_GROUPS 13

#define GANDER_MAX_HEAD_SIZE 256

// Types of matrices: the values of gander::DataType.
#define GANDER_F32 0
#define GANDER_F16 1
#define GANDER_BF16 2
#define GANDER_Q8_0 3
#define GANDER_Q4_0 4
#define GANDER_Q4_K 5
#define GANDER_Q5_K 6
#define GANDER_Q6_K 7
