#pragma once

#include "../formats_k.h"
#include "parameters.h"

// Weights of a tile as halves. Of the 64 columns of a step and a row a thread, `part` 0 or 1, has a
// share of 32: four chunks of eight columns. A format says
//   Raw, load(matrix, row, step, part, columns)  the share as it is stored, in registers
//   decode(raw, step, part)                      its values
//   chunk(i, part)                               which columns of the step chunk i are, in eights
// Columns past the last are zero. Rounding a weight to a half costs up to 2^-12 of it, rounding
// scale and offset to halves before about as much; a float beyond a half's range becomes the
// largest half, which no known model's is.

// Halves in pairs, the lower column in the lower bits; chunk i is words 4 i to 4 i + 3.
struct Share {
  uint words[16];
};

// As most formats have it: 16 columns and the 16 that come 32 later.
static inline uint chunk_of_runs(uint i, uint part) {
  return 2u * part + i % 2u + 4u * (i / 2u);
}

static inline float half_range(float x) {
  return min(max(x, -65504.0f), 65504.0f);
}

// A half twice.
static inline uint two_of(float x) {
  return pack_halves(x, x);
}
static inline uint two_of_low(uint pair) {
  return (pair & 0xffffu) | pair << 16;
}
static inline uint two_of_high(uint pair) {
  return pair >> 16 | (pair & 0xffff0000u);
}

// Four levels of a word's bytes, scaled, as two pairs: scale and offset are a half twice.
static inline uint2 scaled_bytes(uint word, uint scale, uint offset) {
  return uint2(fma_halves(levels_of_bytes(word, 0u), scale, offset),
               fma_halves(levels_of_bytes(word, 2u), scale, offset));
}

// Of nibbles: the low ones of 16 bytes are the first run, the high ones the second.
static inline Share scaled_nibbles(uint4 nibbles, float2 scales, float2 offsets) {
  Share share;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    const uint2 low = scaled_bytes(nibbles[i] & 0x0f0f0f0fu, two_of(scales.x), two_of(offsets.x));
    const uint2 high =
        scaled_bytes(nibbles[i] >> 4 & 0x0f0f0f0fu, two_of(scales.y), two_of(offsets.y));
    share.words[2u * i] = low.x;
    share.words[2u * i + 1u] = low.y;
    share.words[8u + 2u * i] = high.x;
    share.words[9u + 2u * i] = high.y;
  }
  return share;
}

// Of levels in bytes.
static inline Share scaled_levels(uint4 first, uint4 second, float2 scales, float2 offsets) {
  Share share;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {
    const uint2 low = scaled_bytes(first[i], two_of(scales.x), two_of(offsets.x));
    const uint2 high = scaled_bytes(second[i], two_of(scales.y), two_of(offsets.y));
    share.words[2u * i] = low.x;
    share.words[2u * i + 1u] = low.y;
    share.words[8u + 2u * i] = high.x;
    share.words[9u + 2u * i] = high.y;
  }
  return share;
}

// Columns `column` and column + 1 of a row of 16-bit floats; zeros past the end.
static inline uint load_pair(device const uchar* row, uint column, uint columns) {
  device const ushort* values = (device const ushort*)row;
  const uint low = column < columns ? uint(values[column]) : 0u;
  const uint high = column + 1u < columns ? uint(values[column + 1u]) : 0u;
  return low | high << 16;
}

// 16-bit floats as they are stored.
static inline Share load_words(device const uchar* row, uint step, uint part, uint columns) {
  Share share;
#pragma unroll
  for (uint i = 0u; i < 4u; ++i) {  // eight columns each
    const uint column = 64u * step + 16u * part + 8u * (i % 2u) + 32u * (i / 2u);
    uint4 words = uint4(0u);
    if (columns % 8u == 0u) {
      if (column < columns) words = *(device const uint4*)(row + 2u * column);
    } else {
      for (uint j = 0u; j < 4u; ++j) words[j] = load_pair(row, column + 2u * j, columns);
    }
    for (uint j = 0u; j < 4u; ++j) share.words[4u * i + j] = words[j];
  }
  return share;
}

struct ShareF16 {
  typedef Share Raw;
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return 2u * columns; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    return load_words(row, step, part, columns);
  }
  static Share decode(Raw raw, uint, uint) { return raw; }
};

struct ShareBF16 {
  typedef Share Raw;
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return 2u * columns; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    return load_words(row, step, part, columns);
  }
  static Share decode(Raw raw, uint, uint) {
#pragma unroll
    for (uint i = 0u; i < 16u; ++i) {
      const float2 pair = bfloats_of(raw.words[i]);
      raw.words[i] = pack_halves(half_range(pair.x), half_range(pair.y));
    }
    return raw;
  }
};

struct ShareF32 {
  struct Raw {
    float4 quads[8];
  };
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return 4u * columns; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const float* values = (device const float*)row;
    Raw raw;
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      const uint column = 64u * step + 16u * part + 4u * (i % 4u) + 32u * (i / 4u);
      raw.quads[i] = float4(0.0f);
      if (columns % 4u == 0u) {
        if (column < columns) raw.quads[i] = *(device const float4*)(values + column);
      } else {
        for (uint j = 0u; j < 4u; ++j) {
          if (column + j < columns) raw.quads[i][j] = values[column + j];
        }
      }
    }
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    Share share;
#pragma unroll
    for (uint i = 0u; i < 8u; ++i) {
      const float4 quad = raw.quads[i];
      share.words[2u * i] = pack_halves(half_range(quad.x), half_range(quad.y));
      share.words[2u * i + 1u] = pack_halves(half_range(quad.z), half_range(quad.w));
    }
    return share;
  }
};

// Scales and offsets of the two runs: d scale, -dmin minimum.
static inline Share scaled_pair(uint4 header, uint step, uint4 first, uint4 second) {
  const float2 d = halves_of(header.x);
  const GroupPair pair = group_pair(header, step % 4u);
  return scaled_levels(first, second, d.x * pair.scales, -d.y * pair.minimums);
}

struct ShareQ4_K {
  struct Raw {
    uint4 header, nibbles;
  };
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return columns / 256u * 144u; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const uint4* block = (device const uint4*)row + 9u * (step / 4u);
    Raw raw;
    raw.header = block[0];
    raw.nibbles = block[1u + 2u * (step % 4u) + part];
    return raw;
  }
  static Share decode(Raw raw, uint step, uint) {
    const float2 d = halves_of(raw.header.x);
    const GroupPair pair = group_pair(raw.header, step % 4u);
    return scaled_nibbles(raw.nibbles, d.x * pair.scales, -d.y * pair.minimums);
  }
};

struct ShareQ5_K {
  struct Raw {
    uint4 header, fifths, nibbles;
  };
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return columns / 256u * 176u; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const uint4* block = (device const uint4*)row + 11u * (step / 4u);
    Raw raw;
    raw.header = block[0];
    raw.fifths = block[1u + part];
    raw.nibbles = block[3u + 2u * (step % 4u) + part];
    return raw;
  }
  static Share decode(Raw raw, uint step, uint) {
    const uint4 fifths = raw.fifths >> uint4(2u * (step % 4u));
    return scaled_pair(raw.header, step, (raw.nibbles & 0x0f0f0f0fu) | (fifths & 0x01010101u) << 4,
                       (raw.nibbles >> 4 & 0x0f0f0f0fu) | (fifths & 0x02020202u) << 3);
  }
};

// d (q - 128), of bytes whose signs were turned: 2^7 more.
static inline Share scaled_signed(uint4 first, uint4 second, float2 d) {
  return scaled_levels(first ^ uint4(0x80808080u), second ^ uint4(0x80808080u), d, -128.0f * d);
}

static inline uint4 load_words_of_two(device const uchar* at) {
  device const ushort* words = (device const ushort*)at;
  return uint4(load_word(words, 0u), load_word(words, 1u), load_word(words, 2u),
               load_word(words, 3u));
}

struct ShareQ8_0 {
  struct Raw {
    uint4 first, second;
    float2 d;
  };
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return columns / 32u * 34u; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const uchar* block = row + 68u * step;
    Raw raw;
    raw.first = load_words_of_two(block + 2u + 16u * part);
    raw.second = uint4(0u);
    raw.d = float2(load_half(block), 0.0f);
    if (64u * step + 32u < columns) {
      raw.second = load_words_of_two(block + 36u + 16u * part);
      raw.d.y = load_half(block + 34u);
    }
    return raw;
  }
  static Share decode(Raw raw, uint, uint) { return scaled_signed(raw.first, raw.second, raw.d); }
};

struct ShareQ4_0 {
  struct Raw {
    uint4 first, second;
    float2 d;
  };
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return columns / 32u * 18u; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const uchar* block = row + 36u * step;
    Raw raw;
    raw.first = load_words_of_two(block + 2u);
    raw.second = uint4(0u);
    raw.d = float2(load_half(block), 0.0f);
    if (64u * step + 32u < columns) {
      raw.second = load_words_of_two(block + 20u);
      raw.d.y = load_half(block + 18u);
    }
    return raw;
  }
  static Share decode(Raw raw, uint, uint part) {  // the high nibbles are the later columns
    return scaled_levels(raw.first >> uint4(4u * part) & 0x0f0f0f0fu,
                         raw.second >> uint4(4u * part) & 0x0f0f0f0fu, raw.d, -8.0f * raw.d);
  }
};

// Levels and scales of both runs, as the token kernel's blocks have them together.
struct RawQ6_K {
  uint4 nibbles_first, nibbles_second, upper_first, upper_second;
  float2 scales;
};

struct ShareQ6_K {
  typedef RawQ6_K Raw;
  static uint chunk(uint i, uint part) { return chunk_of_runs(i, part); }
  static uint row_bytes(uint columns) { return columns / 256u * 210u; }
  static Raw load(device const uchar* matrix, uint row_number, uint step, uint part, uint columns) {
    device const uchar* row = matrix + ulong(row_bytes(columns)) * row_number;
    device const uchar* block = row + 210u * (step / 4u);
    const uint half_block = step % 4u / 2u;
    const uint quarter = step % 2u * 2u;  // and the one after it
    device const char* scales = (device const char*)(block + 192u) + 4u * (step % 4u) + part;
    const float d = load_half(block + 208u);
    const uint shift = 2u * step % 4u * 2u;
    Raw raw;
    raw.nibbles_first =
        load_words_of_two(block + 64u * half_block + 16u * part) >> uint4(2u * quarter);
    raw.nibbles_second =
        load_words_of_two(block + 64u * half_block + 32u + 16u * part) >> uint4(2u * quarter);
    const uint4 upper = load_words_of_two(block + 128u + 32u * half_block + 16u * part);
    raw.upper_first = upper >> uint4(shift);
    raw.upper_second = upper >> uint4(shift + 2u);
    raw.scales = d * float2(float(scales[0]), float(scales[2]));
    return raw;
  }
  static Share decode(Raw raw, uint, uint) {
    return scaled_levels((raw.nibbles_first & 0x0f0f0f0fu) | (raw.upper_first & 0x03030303u) << 4,
                         (raw.nibbles_second & 0x0f0f0f0fu) | (raw.upper_second & 0x03030303u) << 4,
                         raw.scales, -32.0f * raw.scales);
  }
};
