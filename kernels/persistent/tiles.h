#pragma once

#include "../formats.h"
#include "vector.h"

// Quantised weights times the vector, sixteen rows at a time, as products of matrices of bytes.
//
// A tile is 256 columns of 16 rows (backend/gpu/persistent/row_tiles.h). For the instruction a SIMD
// group is eight groups g of four lanes t: a lane has rows g and g + 8, and of each 32 columns
// 4 t .. 4 t + 3 and 16 + 4 t .. 16 + 4 t + 3. The other factor has eight columns: the high and the
// low bytes of the vector's integers for four runs of 32 channels (of 16 for Q6_K), each zero
// outside of its run, so that a run's sums stay apart and get the scales of their own. Lane t of a
// row has those of run t.
//
// A format says
//   kBytes                         of a tile
//   multiply(tile, lane, x, number)  what the lane adds to rows g and g + 8, where the tile has
//                                  columns 256 number and following

// The parts of a tile that all formats of four bits begin with.
#define GANDER_NIBBLES 2048u  // bytes

// A lane's levels of a run of 32 columns, in both rows.
static inline uint4 run_levels(uint2 row, uint2 row_8) {
  return uint4(row.x, row_8.x, row.y, row_8.y);
}

// The other factor for the four runs of a half tile: the vector's bytes in the lane's column, zero
// where that is of another run.
struct Columns {
  uint2 at[4];
};

static inline Columns columns_of_32(SharedVector x, uint number, uint half_tile, uint lane) {
  const uint2 bytes =
      *(threadgroup const uint2*)(x.planes + 512u * number + 256u * half_tile + 8u * lane);
  Columns columns;
#pragma unroll
  for (uint run = 0u; run < 4u; ++run) {
    columns.at[run] = lane / 8u == run ? bytes : uint2(0u);
  }
  return columns;
}

// high 256 + low
static inline float2 joined(int4 sums) {
  return float2(float(sums.x * 256 + sums.y), float(sums.z * 256 + sums.w));
}

// Nibbles times 16, 1 or another power of two: the low ones are run 0 or 2, the high ones 1 or 3.
static inline float2 multiply_nibbles(uint4 row, uint4 row_8, Columns columns) {
  const uint low = 0x0f0f0f0fu;
  const uint high = 0xf0f0f0f0u;
  int4 sums = int4(0);
  sums = multiply_unsigned_bytes(run_levels(row.xy & low, row_8.xy & low), columns.at[0], sums);
  sums = multiply_unsigned_bytes(run_levels(row.xy & high, row_8.xy & high), columns.at[1], sums);
  sums = multiply_unsigned_bytes(run_levels(row.zw & low, row_8.zw & low), columns.at[2], sums);
  sums = multiply_unsigned_bytes(run_levels(row.zw & high, row_8.zw & high), columns.at[3], sums);
  return joined(sums);
}

// What the lane's runs count for: high nibbles stayed where they were.
static inline float nibble_unit(uint lane) {
  return (lane & 1u) != 0u ? 0.0625f : 1.0f;
}

// Scale and sum of the lane's run.
static inline float2 run_scale(SharedVector x, uint number, uint half_tile, uint lane) {
  return x.scales[8u * number + 4u * half_tile + lane % 4u];
}

static inline uint4 line(threadgroup const uchar* tile, uint number, uint lane) {
  return *(threadgroup const uint4*)(tile + 512u * number + 16u * lane);
}

static inline uint2 half_of(uint4 words, uint half_number) {
  return half_number == 0u ? uint2(words.xy) : uint2(words.zw);
}

static inline uint word(threadgroup const uchar* words, uint index) {
  return ((threadgroup const uint*)words)[index];
}

// What a row's run of each half tile counts for, of Q4_K and Q5_K: d scale times the unit of its
// levels, and dmin minimum.
struct RowScales {
  float2 scale, minimum;

  // Of half tile h: the products of levels and integers, and the run's scale and sum.
  float sum(uint h, float products, float2 run) const {
    return run.x * scale[h] * products - run.y * minimum[h];
  }
};

// Of the lane's row g, or g + 8 where `upper` is 1.
static inline RowScales row_scales(threadgroup const uchar* words, uint upper, uint lane,
                                   float unit) {
  const float2 d = halves_of(word(words, 64u + 8u * upper + lane / 4u));
  const uint bytes = word(words, 32u * upper + lane);
  const float d_unit = d.x * unit;
  const float below = d_unit * -8388608.0f;
  const float min_below = d.y * -8388608.0f;
  RowScales scales;  // exact: d has 11 bits
  scales.scale =
      float2(fma(d_unit, byte_above(bytes, 0u), below), fma(d_unit, byte_above(bytes, 2u), below));
  scales.minimum = float2(fma(d.y, byte_above(bytes, 1u), min_below),
                          fma(d.y, byte_above(bytes, 3u), min_below));
  return scales;
}

struct TileQ4_K {
  enum { kBytes = 16 * 148 };

  static float2 multiply(threadgroup const uchar* tile, uint lane, SharedVector x, uint number) {
    threadgroup const uchar* scales = tile + GANDER_NIBBLES;
    const float unit = nibble_unit(lane);
    const RowScales row = row_scales(scales, 0u, lane, unit);
    const RowScales row_8 = row_scales(scales, 1u, lane, unit);
    float2 sum = float2(0.0f);
#pragma unroll
    for (uint h = 0u; h < 2u; ++h) {
      const float2 products =
          multiply_nibbles(line(tile, 2u * h, lane), line(tile, 2u * h + 1u, lane),
                           columns_of_32(x, number, h, lane));
      const float2 run = run_scale(x, number, h, lane);
      sum += float2(row.sum(h, products.x, run), row_8.sum(h, products.y, run));
    }
    return sum;
  }
};

// The fifth bits: those of bytes i of a lane's words of a half tile in byte i, the first word's
// highest. Levels are multiplied times 8.
struct TileQ5_K {
  enum { kBytes = 16 * 180 };

  static float2 multiply(threadgroup const uchar* tile, uint lane, SharedVector x, uint number) {
    threadgroup const uchar* fifths = tile + GANDER_NIBBLES;
    threadgroup const uchar* scales = fifths + 512u;
    const RowScales row = row_scales(scales, 0u, lane, 0.125f);
    const RowScales row_8 = row_scales(scales, 1u, lane, 0.125f);
    float2 sum = float2(0.0f);
#pragma unroll
    for (uint h = 0u; h < 2u; ++h) {
      const Columns columns = columns_of_32(x, number, h, lane);
      const uint4 q = line(tile, 2u * h, lane);
      const uint4 q_8 = line(tile, 2u * h + 1u, lane);
      const uint fifth = word(fifths, 64u * h + lane);
      const uint fifth_8 = word(fifths, 64u * h + 32u + lane);
      int4 sums = int4(0);
#pragma unroll
      for (uint run = 0u; run < 4u; ++run) {
        sums = multiply_unsigned_bytes(run_levels(levels(half_of(q, run / 2u), fifth, run),
                                                  levels(half_of(q_8, run / 2u), fifth_8, run)),
                                       columns.at[run], sums);
      }
      const float2 products = joined(sums);
      const float2 run = run_scale(x, number, h, lane);
      sum += float2(row.sum(h, products.x, run), row_8.sum(h, products.y, run));
    }
    return sum;
  }

  static uint2 levels(uint2 q, uint fifth, uint run) {
    const uint2 nibbles = run % 2u == 0u ? q << 3u : q >> 1u;
    const uint2 bits = uint2(fifth << (2u * run), fifth << (2u * run + 1u));
    return (nibbles & 0x78787878u) | (bits & 0x80808080u);
  }
};

// Levels less 32, times 4: six bits at the top of a byte, the upper two of them in words like the
// fifth bits of Q5_K, for two runs of 32 each. Scales are those of 16 columns: of a half tile's
// quarter u in byte 2 h + u.
struct TileQ6_K {
  enum { kBytes = 16 * 212 };

  static float2 multiply(threadgroup const uchar* tile, uint lane, SharedVector x, uint number) {
    threadgroup const uchar* upper = tile + GANDER_NIBBLES;
    threadgroup const uchar* scales = upper + 1024u;
    const float d = 0.25f * halves_of(word(scales, 64u + lane / 4u)).x;
    const float d_8 = 0.25f * halves_of(word(scales, 72u + lane / 4u)).x;
    const uint bytes = word(scales, lane);
    const uint bytes_8 = word(scales, 32u + lane);
    float2 sum = float2(0.0f);
#pragma unroll
    for (uint quarter = 0u; quarter < 4u; ++quarter) {
      const uint h = quarter / 2u;
      const uint2 q = half_of(line(tile, 2u * h, lane), quarter % 2u);
      const uint2 q_8 = half_of(line(tile, 2u * h + 1u, lane), quarter % 2u);
      const uint high = word(upper, 128u * h + 2u * lane + quarter % 2u);
      const uint high_8 = word(upper, 128u * h + 64u + 2u * lane + quarter % 2u);
      const uint at = 512u * number + 128u * quarter + lane / 16u * 64u + (lane / 4u & 1u) * 32u +
                      lane % 4u * 8u + (lane / 8u & 1u) * 4u;
      const uint b = *(threadgroup const uint*)(x.planes + at);
      int4 sums = int4(0);
#pragma unroll
      for (uint run = 0u; run < 2u; ++run) {
        const uint2 columns =
            uint2(lane / 8u == 2u * run ? b : 0u, lane / 8u == 2u * run + 1u ? b : 0u);
        sums = multiply_signed_bytes(run_levels(levels(q, high, run), levels(q_8, high_8, run)),
                                     columns, sums);
      }
      const float2 products =
          joined(sums) * x.scales[8u * number + 2u * quarter + lane % 4u / 2u].x;
      sum.x += products.x * float(char(bytes >> (8u * quarter)));
      sum.y += products.y * float(char(bytes_8 >> (8u * quarter)));
    }
    return sum * float2(d, d_8);
  }

  static uint2 levels(uint2 q, uint upper, uint run) {
    const uint2 nibbles = run == 0u ? q << 2u : q >> 2u;
    const uint2 bits = uint2(upper << (4u * run), upper << (4u * run + 2u));
    return (nibbles & 0x3c3c3c3cu) | (bits & 0xc0c0c0c0u);
  }
};

// A word of the row's runs t of both half tiles: two d.
struct TileQ4_0 {
  enum { kBytes = 16 * 144 };

  static float2 multiply(threadgroup const uchar* tile, uint lane, SharedVector x, uint number) {
    threadgroup const uchar* scales = tile + GANDER_NIBBLES;
    const float2 d = halves_of(word(scales, lane));
    const float2 d_8 = halves_of(word(scales, 32u + lane));
    const float unit = nibble_unit(lane);
    float2 sum = float2(0.0f);
#pragma unroll
    for (uint h = 0u; h < 2u; ++h) {
      const float2 products =
          multiply_nibbles(line(tile, 2u * h, lane), line(tile, 2u * h + 1u, lane),
                           columns_of_32(x, number, h, lane));
      const float2 run = run_scale(x, number, h, lane);
      sum.x += d[h] * (run.x * unit * products.x - 8.0f * run.y);
      sum.y += d_8[h] * (run.x * unit * products.y - 8.0f * run.y);
    }
    return sum;
  }
};

struct TileQ8_0 {
  enum { kBytes = 16 * 272 };

  static float2 multiply(threadgroup const uchar* tile, uint lane, SharedVector x, uint number) {
    threadgroup const uchar* scales = tile + 4096u;
    const float2 d = halves_of(word(scales, lane));
    const float2 d_8 = halves_of(word(scales, 32u + lane));
    float2 sum = float2(0.0f);
#pragma unroll
    for (uint h = 0u; h < 2u; ++h) {
      const Columns columns = columns_of_32(x, number, h, lane);
      int4 sums = int4(0);
#pragma unroll
      for (uint pair = 0u; pair < 2u; ++pair) {
        const uint4 q = line(tile, 4u * h + pair, lane);
        const uint4 q_8 = line(tile, 4u * h + 2u + pair, lane);
        sums = multiply_signed_bytes(run_levels(q.xy, q_8.xy), columns.at[2u * pair], sums);
        sums = multiply_signed_bytes(run_levels(q.zw, q_8.zw), columns.at[2u * pair + 1u], sums);
      }
      const float2 products = joined(sums) * run_scale(x, number, h, lane).x;
      sum.x += products.x * d[h];
      sum.y += products.y * d_8[h];
    }
    return sum;
  }
};
