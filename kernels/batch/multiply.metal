#include <metal_stdlib>
using namespace metal;

// Halves in pairs, as msl_tensor.h has them for NVIDIA.
static inline uint pack_halves(float low, float high) {
  return as_type<uint>(half2(half(low), half(high)));
}
static inline uint levels_of(uint spread) {
  return as_type<uint>(as_type<half2>(spread | 0x64006400u) - half2(half(1024.0f)));
}
static inline uint levels_of_bytes(uint word, uint first) {
  return levels_of((word >> (8u * first) & 255u) | (word >> (8u * first + 8u) & 255u) << 16);
}
static inline uint spread_nibbles(uint word, uint i) {
  return (word >> (8u * i) & 15u) | (word >> (8u * i + 4u) & 15u) << 16;
}
static inline uint fma_halves(uint a, uint b, uint c) {
  return as_type<uint>(fma(as_type<half2>(a), as_type<half2>(b), as_type<half2>(c)));
}

#include "product.h"

// Halves from one row of a tile to the next: 64, and 8 that spread rows over the memory's banks.
#define GANDER_TILE_STRIDE 72u

// 64 rows of weights times `Tokens` tokens by simdgroup_matrix, 64 columns at a time. Of the four
// SIMD groups each has 16 of the rows. Products of halves are added up in floats, in the order of
// the columns: what else is in the step makes no difference to a token.
template <uint Tokens>
struct SimdProduct {
  device const uchar* weights;
  device const half* input;
  uint columns, rows, input_stride;
  ProductPlace place;
  uint first_token;
  ProductOutput output;
  threadgroup float* scratch;
  uint index, simdgroup;

  threadgroup half* weight_tile() const { return (threadgroup half*)scratch; }
  threadgroup half* token_tile() const { return weight_tile() + 64u * GANDER_TILE_STRIDE; }

  // Chunk `chunk` of 8 halves of a row of a tile.
  static void store_chunk(threadgroup half* tile, uint row, uint chunk, uint4 words) {
    *(threadgroup uint4*)(tile + GANDER_TILE_STRIDE * row + 8u * chunk) = words;
  }

  static uint4 words_of(Share share, uint i) {
    return uint4(share.words[4u * i], share.words[4u * i + 1u], share.words[4u * i + 2u],
                 share.words[4u * i + 3u]);
  }

  void load_tokens(uint step) const {
    for (uint i = index; i < 8u * Tokens; i += 128u) {
      device const half* row = input + ulong(first_token + i / 8u) * input_stride + 64u * step;
      store_chunk(token_tile(), i / 8u, i % 8u, ((device const uint4*)row)[i % 8u]);
    }
  }

  template <typename Format>
  void load_rows(uint step) const {
    const uint row = index / 2u;
    const uint part = index % 2u;
    const uint number = min(place.first_row + row, rows - 1u);
    const Share share =
        Format::decode(Format::load(weights, number, step, part, columns), step, part);
    for (uint i = 0u; i < 4u; ++i) {
      store_chunk(weight_tile(), row, Format::chunk(i, part), words_of(share, i));
    }
  }

  template <typename Format>
  void load_units(uint step) const {
    const uint unit = 4u * (index / 8u);
    const uint chunk = index % 8u;
    const Share share =
        Format::decode(Format::load(weights, 64u * step + unit, place.first_row + 8u * chunk));
    for (uint i = 0u; i < 4u; ++i) store_chunk(weight_tile(), unit + i, chunk, words_of(share, i));
  }

  // sums[i][j]: rows 16 simdgroup + 8 i of the tile, tokens 8 j.
  void multiply(thread simdgroup_float8x8 (&sums)[2][Tokens / 8u], bool by_unit) const {
    for (uint k = 0u; k < 64u; k += 8u) {
      simdgroup_half8x8 by_row[2];
      for (uint i = 0u; i < 2u; ++i) {
        const uint row = 16u * simdgroup + 8u * i;
        if (by_unit) {
          simdgroup_load(by_row[i], weight_tile() + GANDER_TILE_STRIDE * k + row,
                         GANDER_TILE_STRIDE, ulong2(0), true);
        } else {
          simdgroup_load(by_row[i], weight_tile() + GANDER_TILE_STRIDE * row + k,
                         GANDER_TILE_STRIDE);
        }
      }
      for (uint j = 0u; j < Tokens / 8u; ++j) {
        simdgroup_half8x8 by_token;
        simdgroup_load(by_token, token_tile() + GANDER_TILE_STRIDE * 8u * j + k,
                       GANDER_TILE_STRIDE, ulong2(0), true);
        simdgroup_multiply_accumulate(sums[0][j], by_row[0], by_token, sums[0][j]);
        simdgroup_multiply_accumulate(sums[1][j], by_row[1], by_token, sums[1][j]);
      }
    }
  }

  void store(thread simdgroup_float8x8 (&sums)[2][Tokens / 8u]) const {
    for (uint i = 0u; i < 2u; ++i) {
      for (uint j = 0u; j < Tokens / 8u; ++j) {
        simdgroup_store(sums[i][j], scratch + (16u * simdgroup + 8u * i) * Tokens + 8u * j, Tokens);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = index; i < 64u * Tokens; i += 128u) {
      const uint row = i % 64u;
      const uint token = i / 64u;
      output.put(place.first_row + row, first_token + token, scratch[row * Tokens + token]);
    }
  }

  template <typename Format>
  void over_rows() const {
    simdgroup_float8x8 sums[2][Tokens / 8u];
    clear(sums);
    for (uint step = place.begin; step < place.end; ++step) {
      load_tokens(step);
      load_rows<Format>(step);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      multiply(sums, false);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    store(sums);
  }

  template <typename Format>
  void over_units() const {
    simdgroup_float8x8 sums[2][Tokens / 8u];
    clear(sums);
    for (uint step = place.begin; step < place.end; ++step) {
      load_tokens(step);
      load_units<Format>(step);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      multiply(sums, true);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    store(sums);
  }

  void clear(thread simdgroup_float8x8 (&sums)[2][Tokens / 8u]) const {
    for (uint i = 0u; i < 2u; ++i) {
      for (uint j = 0u; j < Tokens / 8u; ++j) {
        sums[i][j] = make_filled_simdgroup_matrix<float, 8>(0.0f);
      }
    }
  }
};

template <uint Tokens>
static inline SimdProduct<Tokens> simd_product(constant BatchMultiplyParameters& parameters,
                                               ProductPlace place, device const half* inputs,
                                               uint first_token, uint tokens, device float* floats,
                                               device half* halves, threadgroup float* scratch,
                                               uint index) {
  SimdProduct<Tokens> product;
  product.input = inputs + parameters.matrix[place.matrix].input;
  product.columns = parameters.matrix[place.matrix].columns;
  product.rows = parameters.matrix[place.matrix].rows;
  product.input_stride = parameters.matrix[place.matrix].input_stride;
  product.place = place;
  product.first_token = first_token;
  product.output = product_output(parameters, place, tokens, floats, halves);
  product.scratch = scratch;
  product.index = index;
  product.simdgroup = index / 32u;
  return product;
}

// Products with several matrices: a group of 128 threads takes a tile of one of them, position.y,
// and a tile of tokens, position.x. Tiles of tokens that this step has not are left out.
template <uint Tokens>
kernel void multiply_by_rows(device const half* inputs [[buffer(0)]],
                             device const uchar* weights0 [[buffer(1)]],
                             device const uchar* weights1 [[buffer(2)]],
                             device const uchar* weights2 [[buffer(3)]],
                             device const uchar* weights3 [[buffer(4)]],
                             device const uchar* weights4 [[buffer(5)]],
                             device const uchar* weights5 [[buffer(6)]],
                             device const uchar* weights6 [[buffer(7)]],
                             device const uint* counts [[buffer(8)]],
                             device float* floats [[buffer(9)]],
                             device half* halves [[buffer(10)]],
                             constant BatchMultiplyParameters& parameters [[buffer(11)]],
                             threadgroup float* scratch [[threadgroup(0)]],
                             uint2 position [[threadgroup_position_in_grid]],
                             uint index [[thread_index_in_threadgroup]]) {
  const uint tokens = counts[parameters.count];
  if (Tokens * position.x >= tokens) return;
  const ProductPlace place = product_place(parameters, position.y, 64u);
  SimdProduct<Tokens> product =
      simd_product<Tokens>(parameters, place, inputs, Tokens * position.x, tokens, floats, halves,
                           scratch, index);
  product.weights = weights0;
  if (place.matrix == 1u) product.weights = weights1;
  if (place.matrix == 2u) product.weights = weights2;
  if (place.matrix == 3u) product.weights = weights3;
  if (place.matrix == 4u) product.weights = weights4;
  if (place.matrix == 5u) product.weights = weights5;
  if (place.matrix == 6u) product.weights = weights6;
  multiply_rows<ShareQ8_0, ShareQ4_0, ShareQ4_K, ShareQ5_K, ShareQ6_K>(
      product, parameters.matrix[place.matrix].type);
}

// The same with the transposed value matrix.
template <uint Tokens>
kernel void multiply_by_units(device const half* inputs [[buffer(0)]],
                              device const uchar* weights [[buffer(1)]],
                              device const uint* counts [[buffer(2)]],
                              device float* floats [[buffer(3)]],
                              constant BatchMultiplyParameters& parameters [[buffer(4)]],
                              threadgroup float* scratch [[threadgroup(0)]],
                              uint2 position [[threadgroup_position_in_grid]],
                              uint index [[thread_index_in_threadgroup]]) {
  const uint tokens = counts[parameters.count];
  if (Tokens * position.x >= tokens) return;
  const ProductPlace place = product_place(parameters, position.y, 64u);
  SimdProduct<Tokens> product = simd_product<Tokens>(
      parameters, place, inputs, Tokens * position.x, tokens, floats, (device half*)floats,
      scratch, index);
  product.weights = weights;
  multiply_units(product, parameters.matrix[place.matrix].type);
}

template [[host_name("multiply_rows_16")]] kernel decltype(multiply_by_rows<16u>)
    multiply_by_rows<16u>;
template [[host_name("multiply_rows_64")]] kernel decltype(multiply_by_rows<64u>)
    multiply_by_rows<64u>;
template [[host_name("multiply_units_16")]] kernel decltype(multiply_by_units<16u>)
    multiply_by_units<16u>;
template [[host_name("multiply_units_64")]] kernel decltype(multiply_by_units<64u>)
    multiply_by_units<64u>;
