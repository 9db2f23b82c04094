#pragma once

#include "../activations.h"
#include "../model.h"
#include "unit_shares.h"

// What both kinds of products have in common, the one by simdgroup_matrix (multiply.metal) and the
// one by NVIDIA's tensor cores (multiply_tensor.msl): which weights a group multiplies, and what
// becomes of the sums.

// The weights a group multiplies with a tile of tokens.
struct ProductPlace {
  uint matrix;      // number
  uint first_row;   // of the weights
  uint begin, end;  // steps of 64 columns
  uint slice;
};

// `tile` counts tiles of `tile_rows` rows over all matrices.
static inline ProductPlace product_place(constant BatchMultiplyParameters& parameters, uint tile,
                                         uint tile_rows) {
  ProductPlace place;
  place.matrix = 0u;
  for (uint i = 1u; i < parameters.matrices; ++i) {
    if (tile >= parameters.matrix[i].first_tile) place.matrix = i;
  }
  const uint number = tile - parameters.matrix[place.matrix].first_tile;
  const uint row_tiles = parameters.matrix[place.matrix].row_tiles;
  const uint slices = parameters.matrix[place.matrix].slices;
  const uint steps = (parameters.matrix[place.matrix].columns + 63u) / 64u;
  const uint slice_steps = (steps + slices - 1u) / slices;
  place.first_row = number % row_tiles * tile_rows;
  place.slice = number / row_tiles;
  place.begin = min(place.slice * slice_steps, steps);
  place.end = min(place.begin + slice_steps, steps);
  return place;
}

// Where a sum goes. relu² is kept below what a half can be.
struct ProductOutput {
  device float* floats;
  device half* halves;
  uint stride, rows, tokens, activation;
  float scale;

  void put(uint row, uint token, float sum) const {
    if (row >= rows || token >= tokens) return;
    const ulong at = ulong(token) * stride + row;
    sum *= scale;
    if (activation == GANDER_BATCH_FLOATS) {
      floats[at] = sum;
      return;
    }
    if (activation == GANDER_BATCH_ADD) {
      floats[at] += sum;
      return;
    }
    if (activation == GANDER_BATCH_TANH) sum = precise::tanh(sum);
    if (activation == GANDER_BATCH_SIGMOID) sum = sigmoid(sum);
    if (activation == GANDER_BATCH_SQUARED_RELU) sum = squared_relu(sum) * GANDER_HIDDEN_SCALE;
    halves[at] = half(half_range(sum));
  }

  // Four rows, where no activation is slow.
  void put_quad(uint row, uint token, float4 sums) const {
    if (row + 4u > rows || stride % 4u != 0u || activation == GANDER_BATCH_TANH ||
        activation == GANDER_BATCH_SIGMOID) {
      for (uint i = 0u; i < 4u; ++i) put(row + i, token, sums[i]);
      return;
    }
    if (token >= tokens) return;
    const ulong at = ulong(token) * stride + row;
    sums *= scale;
    if (activation == GANDER_BATCH_FLOATS) {
      *(device float4*)(floats + at) = sums;
    } else if (activation == GANDER_BATCH_ADD) {
      *(device float4*)(floats + at) += sums;
    } else {
      if (activation == GANDER_BATCH_SQUARED_RELU) {
        sums = max(sums, float4(0.0f));
        sums = sums * sums * GANDER_HIDDEN_SCALE;
      }
      *(device uint2*)(halves + at) = uint2(pack_halves(half_range(sums.x), half_range(sums.y)),
                                            pack_halves(half_range(sums.z), half_range(sums.w)));
    }
  }
};

static inline ProductOutput product_output(constant BatchMultiplyParameters& parameters,
                                           ProductPlace place, uint tokens, device float* floats,
                                           device half* halves) {
  const ulong offset = ulong(parameters.matrix[place.matrix].output) +
                       ulong(place.slice) * parameters.matrix[place.matrix].slice_stride;
  ProductOutput output;
  output.floats = floats + offset;
  output.halves = halves + offset;
  output.stride = parameters.matrix[place.matrix].output_stride;
  output.rows = parameters.matrix[place.matrix].rows;
  output.tokens = tokens;
  output.activation = parameters.matrix[place.matrix].activation;
  output.scale = parameters.scale;
  return output;
}

// Calls product.over_rows<Format>() for the format of a matrix that is stored by rows. Quantised
// types lie as in the file, or in the tiles of the token kernel.
template <typename OfQ8_0, typename OfQ4_0, typename OfQ4_K, typename OfQ5_K, typename OfQ6_K,
          typename Product>
static inline void multiply_rows(thread Product& product, uint type) {
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    product.template over_rows<ShareF32>();
  } else if (has_type(GANDER_F16) && type == GANDER_F16) {
    product.template over_rows<ShareF16>();
  } else if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    product.template over_rows<ShareBF16>();
  } else if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    product.template over_rows<OfQ8_0>();
  } else if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    product.template over_rows<OfQ4_0>();
  } else if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    product.template over_rows<OfQ4_K>();
  } else if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    product.template over_rows<OfQ5_K>();
  } else if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    product.template over_rows<OfQ6_K>();
  }
}

// The same for a matrix that is stored by hidden unit: product.over_units<Format>().
template <typename Product>
static inline void multiply_units(thread Product& product, uint type) {
  if (has_type(GANDER_F32) && type == GANDER_F32) {
    product.template over_units<UnitShareF32>();
  } else if (has_type(GANDER_F16) && type == GANDER_F16) {
    product.template over_units<UnitShareF16>();
  } else if (has_type(GANDER_BF16) && type == GANDER_BF16) {
    product.template over_units<UnitShareBF16>();
  } else if (has_type(GANDER_Q8_0) && type == GANDER_Q8_0) {
    product.template over_units<UnitShareQ8_0>();
  } else if (has_type(GANDER_Q4_0) && type == GANDER_Q4_0) {
    product.template over_units<UnitShareQ4_0>();
  } else if (has_type(GANDER_Q4_K) && type == GANDER_Q4_K) {
    product.template over_units<UnitShareQ4_K>();
  } else if (has_type(GANDER_Q5_K) && type == GANDER_Q5_K) {
    product.template over_units<UnitShareQ5_K>();
  } else if (has_type(GANDER_Q6_K) && type == GANDER_Q6_K) {
    product.template over_units<UnitShareQ6_K>();
  }
}
