#pragma once

// How each type of matrix multiplies. A row is cut into shares that one lane takes; a format says
//   kColumns                      columns of a share
//   row_bytes(columns)            of a row
//   Inputs, load(x, share)        x of a share in registers, loaded once for several rows
//   multiply(row, share, inputs)  the share of the row times x
//   value(row, column)            one weight
// Rows start where the type's widest load is aligned: at 16 bytes for F32, F16, BF16, Q4_K and
// Q5_K, at 2 bytes for Q8_0, Q4_0 and Q6_K. Layouts of blocks: model/quant/blocks.h.
//
// Bits are taken out of 32-bit words. Bytes of a word are not shifted down before they become
// floats: that they are 2^8, 2^16 and 2^24 times too large is undone in x, exactly, once for all
// rows.

static inline float4 byte_scales() {
  return float4(1.0f, 0.00390625f, 1.52587890625e-5f, 5.9604644775390625e-8f);
}

// The unsigned bytes of a word times x, four inputs times byte_scales.
static inline float dot_bytes(uint word, float4 x) {
  const float4 bytes = float4(uint4(word) & uint4(0xffu, 0xff00u, 0xff0000u, 0xff000000u));
  return dot(bytes, x);
}

static inline uint byte_of(uint word, uint index) {
  return (word >> (8u * index)) & 0xffu;
}

static inline float sum4(float4 x) {
  return (x.x + x.y) + (x.z + x.w);
}

// A word that is only aligned to two bytes.
static inline uint load_word(device const ushort* words, uint index) {
  return uint(words[2u * index]) | uint(words[2u * index + 1u]) << 16;
}

static inline float load_half(device const uchar* at) {
  return float(*(device const half*)at);
}

// Floats of 16 bits as the two parts of a word.
static inline float2 halves_of(uint word) {
  return float2(as_type<half2>(word));
}
static inline float2 bfloats_of(uint word) {
  return float2(as_type<float>(word << 16), as_type<float>(word & 0xffff0000u));
}

struct F32 {
  enum { kColumns = 4 };
  struct Inputs {
    float4 x;
  };

  static uint row_bytes(uint columns) { return 4u * columns; }

  static Inputs load(threadgroup const float* x, uint share) {
    Inputs inputs;
    inputs.x = ((threadgroup const float4*)x)[share];
    return inputs;
  }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    return dot(((device const float4*)row)[share], inputs.x);
  }

  static float value(device const uchar* row, uint column) {
    return ((device const float*)row)[column];
  }
};

// Of the formats that take 8 columns at a time.
struct EightInputs {
  float4 x[2];
};

static inline EightInputs load_eight(threadgroup const float* x, uint share) {
  threadgroup const float4* quads = (threadgroup const float4*)x + 2u * share;
  EightInputs inputs;
  inputs.x[0] = quads[0];
  inputs.x[1] = quads[1];
  return inputs;
}

struct F16 {
  enum { kColumns = 8 };
  typedef EightInputs Inputs;

  static uint row_bytes(uint columns) { return 2u * columns; }

  static Inputs load(threadgroup const float* x, uint share) { return load_eight(x, share); }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    const uint4 words = ((device const uint4*)row)[share];
    return dot(float4(halves_of(words.x), halves_of(words.y)), inputs.x[0]) +
           dot(float4(halves_of(words.z), halves_of(words.w)), inputs.x[1]);
  }

  static float value(device const uchar* row, uint column) {
    return float(((device const half*)row)[column]);
  }
};

struct BF16 {
  enum { kColumns = 8 };
  typedef EightInputs Inputs;

  static uint row_bytes(uint columns) { return 2u * columns; }

  static Inputs load(threadgroup const float* x, uint share) { return load_eight(x, share); }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    const uint4 words = ((device const uint4*)row)[share];
    return dot(float4(bfloats_of(words.x), bfloats_of(words.y)), inputs.x[0]) +
           dot(float4(bfloats_of(words.z), bfloats_of(words.w)), inputs.x[1]);
  }

  static float value(device const uchar* row, uint column) {
    return as_type<float>(uint(((device const ushort*)row)[column]) << 16);
  }
};

// A float type whose columns do not fill 16-byte loads: a column at a time.
template <typename Format>
struct Scalars {
  enum { kColumns = 1 };
  struct Inputs {
    float x;
  };

  static uint row_bytes(uint columns) { return Format::row_bytes(columns); }

  static Inputs load(threadgroup const float* x, uint share) {
    Inputs inputs;
    inputs.x = x[share];
    return inputs;
  }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    return Format::value(row, share) * inputs.x;
  }
};

// Blocks of 34 bytes: d, 32 signed bytes. Four lanes take one.
struct Q8_0 {
  enum { kColumns = 8 };
  typedef EightInputs Inputs;

  static uint row_bytes(uint columns) { return columns / 32u * 34u; }

  static Inputs load(threadgroup const float* x, uint share) { return load_eight(x, share); }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    device const uchar* block = row + 34u * (share / 4u);
    device const ushort* levels = (device const ushort*)(block + 2u) + 4u * (share % 4u);
    float sum = 0.0f;
    for (uint i = 0u; i < 2u; ++i) {
      sum += dot(float4(as_type<char4>(load_word(levels, i))), inputs.x[i]);
    }
    return load_half(block) * sum;
  }

  static float value(device const uchar* row, uint column) {
    device const uchar* block = row + 34u * (column / 32u);
    return load_half(block) * float(((device const char*)(block + 2u))[column % 32u]);
  }
};

// Blocks of 18 bytes: d, 16 bytes of nibbles; value d (q - 8). Weight j of a block is the low
// nibble of byte j, j + 16 the high one. Two lanes take one, 8 bytes each.
struct Q4_0 {
  enum { kColumns = 16 };
  struct Inputs {
    float4 low[2], high[2];  // times byte_scales; high also times 1/16
    float sum;
  };

  static uint row_bytes(uint columns) { return columns / 32u * 18u; }

  static Inputs load(threadgroup const float* x, uint share) {
    threadgroup const float4* quads = (threadgroup const float4*)x + 8u * (share / 2u);
    quads += 2u * (share % 2u);
    Inputs inputs;
    inputs.sum = 0.0f;
    for (uint i = 0u; i < 2u; ++i) {
      inputs.sum += sum4(quads[i]) + sum4(quads[4u + i]);
      inputs.low[i] = quads[i] * byte_scales();
      inputs.high[i] = quads[4u + i] * (0.0625f * byte_scales());
    }
    return inputs;
  }

  static float multiply(device const uchar* row, uint share, Inputs inputs) {
    device const uchar* block = row + 18u * (share / 2u);
    device const ushort* nibbles = (device const ushort*)(block + 2u) + 4u * (share % 2u);
    float sum = 0.0f;
    for (uint i = 0u; i < 2u; ++i) {
      const uint word = load_word(nibbles, i);
      sum += dot_bytes(word & 0x0f0f0f0fu, inputs.low[i]);
      sum += dot_bytes(word & 0xf0f0f0f0u, inputs.high[i]);
    }
    return load_half(block) * (sum - 8.0f * inputs.sum);
  }

  static float value(device const uchar* row, uint column) {
    device const uchar* block = row + 18u * (column / 32u);
    const uint j = column % 32u;
    const uint level = (uint(block[2u + j % 16u]) >> (4u * (j / 16u))) & 15u;
    return load_half(block) * (float(level) - 8.0f);
  }
};
