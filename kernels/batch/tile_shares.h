#pragma once

#include "shares.h"

// Shares of matrices as the token kernel has them: tiles of 16 rows and 256 columns
// (backend/gpu/persistent/row_tiles.h, kernels/persistent/tiles.h). Lane t of a row's four has
// columns 4 t to 4 t + 3 and 16 + 4 t to 16 + 4 t + 3 of each 32; a thread has the two lanes t = 2
// part and t + 1, so chunks part, part + 2, part + 4 and part + 6 of a step.

// A tile's place, and the row's in it.
struct TilePlace {
  device const uchar* tile;
  uint row;              // of 16
  uint lane;             // 32 for rows 8 and later, and the first of the row's four
  uint half_tile, pair;  // which 128 columns the step is in, and which 64 of these
};

static inline TilePlace tile_place(device const uchar* matrix, uint row, uint step, uint columns,
                                   uint tile_bytes) {
  TilePlace place;
  place.tile = matrix + (ulong(row / 16u) * (columns / 256u) + step / 4u) * tile_bytes;
  place.row = row % 16u;
  place.lane = 32u * (place.row / 8u) + 4u * (place.row % 8u);
  place.half_tile = step % 4u / 2u;
  place.pair = step % 2u;
  return place;
}

// Nibbles of the two lanes, or of Q8_0 a quarter of the bytes: x and z are a lane's first columns.
static inline uint4 tile_nibbles(TilePlace place, uint part) {
  device const uchar* line = place.tile + 1024u * place.half_tile + 512u * (place.lane / 32u) +
                             16u * (place.lane % 32u + 2u * part) + 8u * place.pair;
  const uint2 first = *(device const uint2*)line;
  const uint2 second = *(device const uint2*)(line + 16u);
  return uint4(first.x, first.y, second.x, second.y);
}

static inline uint2 two_words(device const uchar* words, uint index) {
  return *(device const uint2*)(words + 4u * index);
}

// Chunk i: the levels of its first and second four columns, scale and offset (a half twice).
static inline void scale_chunk(thread Share& share, uint i, uint2 levels, uint scale, uint offset) {
  const uint2 first = scaled_bytes(levels.x, scale, offset);
  const uint2 second = scaled_bytes(levels.y, scale, offset);
  share.words[4u * i] = first.x;
  share.words[4u * i + 1u] = first.y;
  share.words[4u * i + 2u] = second.x;
  share.words[4u * i + 3u] = second.y;
}

static inline uint chunk_of_lanes(uint i, uint part) {
  return part + 2u * i;
}

// Of nibbles: the low ones are the step's first 32 columns.
static inline uint2 nibbles_of_chunk(uint4 nibbles, uint i) {
  const uint2 words = i % 2u == 0u ? uint2(nibbles.x, nibbles.z) : uint2(nibbles.y, nibbles.w);
  return words >> uint2(4u * (i / 2u)) & uint2(0x0f0f0f0fu);
}

// Of Q4_K and Q5_K: scale and offset of chunk i, d scale and -dmin minimum, each a half twice.
struct TilePairs {
  uint2 scales;
  uint d, half_tile;

  uint2 of_chunk(uint i) const {
    const uint pair = (i < 2u ? scales.x : scales.y) >> (16u * half_tile);
    const uint both = fma_halves(levels_of_bytes(pair, 0u), d ^ 0x80000000u, 0u);
    return uint2(two_of_low(both), two_of_high(both));
  }
};

static inline TilePairs tile_pairs(TilePlace place, device const uchar* scales) {
  TilePairs pairs;
  pairs.scales = two_words(scales, place.lane + 2u * place.pair);
  pairs.d = ((device const uint*)scales)[64u + place.row];
  pairs.half_tile = place.half_tile;
  return pairs;
}

struct TileShareQ4_K {
  struct Raw {
    uint4 nibbles;
    TilePairs pairs;
  };
  static uint chunk(uint i, uint part) { return chunk_of_lanes(i, part); }
  static Raw load(device const uchar* matrix, uint row, uint step, uint part, uint columns) {
    const TilePlace place = tile_place(matrix, row, step, columns, 16u * 148u);
    Raw raw;
    raw.nibbles = tile_nibbles(place, part);
    raw.pairs = tile_pairs(place, place.tile + 2048u);
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint2 by = raw.pairs.of_chunk(i);
      scale_chunk(share, i, nibbles_of_chunk(raw.nibbles, i), by.x, by.y);
    }
    return share;
  }
};

struct TileShareQ5_K {
  struct Raw {
    uint4 nibbles;
    uint2 fifths;
    TilePairs pairs;
  };
  static uint chunk(uint i, uint part) { return chunk_of_lanes(i, part); }
  static Raw load(device const uchar* matrix, uint row, uint step, uint part, uint columns) {
    const TilePlace place = tile_place(matrix, row, step, columns, 16u * 180u);
    Raw raw;
    raw.nibbles = tile_nibbles(place, part);
    // Runs 0 and 1 of the half tile, or 2 and 3, come to the same bits.
    raw.fifths = two_words(place.tile + 2048u + 256u * place.half_tile, place.lane + 2u * part)
                 << uint2(4u * place.pair);
    raw.pairs = tile_pairs(place, place.tile + 2560u);
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint2 by = raw.pairs.of_chunk(i);
      const uint shift = 7u - (2u * (i / 2u) + i % 2u);
      const uint2 fifths = raw.fifths >> uint2(shift) & uint2(0x01010101u);
      scale_chunk(share, i, nibbles_of_chunk(raw.nibbles, i) | fifths << uint2(4u), by.x, by.y);
    }
    return share;
  }
};

// The upper bits are those of six in two's complement: the highest is turned.
struct TileShareQ6_K {
  struct Raw {
    uint4 nibbles, scales;
    uint2 upper;
    uint d;
  };
  static uint chunk(uint i, uint part) { return chunk_of_lanes(i, part); }
  static Raw load(device const uchar* matrix, uint row, uint step, uint part, uint columns) {
    const TilePlace place = tile_place(matrix, row, step, columns, 16u * 212u);
    device const uint* upper = (device const uint*)(place.tile + 2048u + 512u * place.half_tile) +
                               2u * (place.lane + 2u * part) + place.pair;
    device const uchar* scales = place.tile + 3072u;
    Raw raw;
    raw.nibbles = tile_nibbles(place, part);
    raw.upper = uint2(upper[0], upper[2]);
    raw.scales = *(device const uint4*)(scales + 4u * place.lane);
    raw.d = ((device const uint*)scales)[64u + place.row];
    return raw;
  }
  static Share decode(Raw raw, uint step, uint) {
    const float d = halves_of(raw.d).x;
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const uint shift = 6u - (4u * (i / 2u) + 2u * (i % 2u));
      const uint2 upper = (raw.upper >> uint2(shift) & uint2(0x03030303u)) ^ uint2(0x02020202u);
      const uint byte = raw.scales[i] >> (8u * (step % 4u)) & 255u;
      const float scale = d * float(as_type<char4>(byte).x);
      scale_chunk(share, i, nibbles_of_chunk(raw.nibbles, i) | upper << uint2(4u), two_of(scale),
                  two_of(-32.0f * scale));
    }
    return share;
  }
};

// d of the step's two runs.
static inline float2 tile_scales(device const uchar* words, TilePlace place) {
  const uint2 d = two_words(words, place.lane + 2u * place.pair) >> uint2(16u * place.half_tile);
  return float2(halves_of(d.x).x, halves_of(d.y).x);
}

struct TileShareQ4_0 {
  struct Raw {
    uint4 nibbles;
    float2 d;
  };
  static uint chunk(uint i, uint part) { return chunk_of_lanes(i, part); }
  static Raw load(device const uchar* matrix, uint row, uint step, uint part, uint columns) {
    const TilePlace place = tile_place(matrix, row, step, columns, 16u * 144u);
    Raw raw;
    raw.nibbles = tile_nibbles(place, part);
    raw.d = tile_scales(place.tile + 2048u, place);
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const float d = i < 2u ? raw.d.x : raw.d.y;
      scale_chunk(share, i, nibbles_of_chunk(raw.nibbles, i), two_of(d), two_of(-8.0f * d));
    }
    return share;
  }
};

struct TileShareQ8_0 {
  struct Raw {
    uint4 first, second;  // of the two lanes: chunk i is word i
    float2 d;
  };
  static uint chunk(uint i, uint part) { return chunk_of_lanes(i, part); }
  static Raw load(device const uchar* matrix, uint row, uint step, uint part, uint columns) {
    const TilePlace place = tile_place(matrix, row, step, columns, 16u * 272u);
    device const uint4* line =
        (device const uint4*)(place.tile + 2048u * place.half_tile + 1024u * (place.lane / 32u) +
                              512u * place.pair) +
        place.lane % 32u + 2u * part;
    Raw raw;
    raw.first = line[0];
    raw.second = line[1];
    raw.d = tile_scales(place.tile + 4096u, place);
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 4u; ++i) {
      const float d = i < 2u ? raw.d.x : raw.d.y;
      scale_chunk(share, i, uint2(raw.first[i], raw.second[i]) ^ uint2(0x80808080u), two_of(d),
                  two_of(-128.0f * d));
    }
    return share;
  }
};
