#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/packed.h"
#include "model/weights.h"

namespace gander {

/// Rows of activations in 8 bits: x = scale * q, a scale for each 32 columns; -127 <= q <= 127.
/// Arrays are [tokens][columns / n].
struct QuantizedRows {
  std::int8_t* q;          ///< n = 1
  float* scale;            ///< n = 32
  float* scaled_sum;       ///< n = 32: scale * sum of q
  std::int16_t* sum;       ///< n = 16: sum of q
  std::uint32_t* nonzero;  ///< n = 32: bit i is set when column i is not zero
  std::size_t columns;     ///< a multiple of 32

  QuantizedRows row(std::size_t t) const {
    return {q + t * columns,        scale + t * columns / 32,   scaled_sum + t * columns / 32,
            sum + t * columns / 16, nonzero + t * columns / 32, columns};
  }
};

/// What happens to each y of a matrix product.
enum class Epilogue { Store, Add, Tanh, Sigmoid, SquaredRelu };

/// y[t][i] = W x[t] for a packed W.
struct PackedProduct {
  const PackedMatrix& matrix;
  const float* values;  ///< x for matrices of floats: [tokens][columns]
  QuantizedRows x;      ///< x for quantised matrices
  std::size_t tokens;
  float* y;  ///< [tokens][y_stride], indexed by row
  std::size_t y_stride;
  Epilogue epilogue;
  float* scratch;  ///< product_scratch(tokens) floats of this thread, for column tiles only
};

/// The operands of one head's recurrence for one token; all arrays have n floats.
struct HeadStep {
  std::size_t n;
  const float *r, *w, *k, *v, *kk, *a;
  float* s;  ///< [n][n], row = key index: the transpose of State::matrix
  float* y;
};

/// The loops of the CPU backend, compiled once per instruction set. All are deterministic: the
/// order of a sum depends on the lengths only, never on threads or on the number of tokens.
struct Kernels {
  const char* instruction_set;

  /// Tiles begin..end of a packed product.
  void (*packed_tiles)(const PackedProduct& product, std::size_t begin, std::size_t end);
  /// Columns begin..end (multiples of 32) of a row of activations to 8 bits.
  void (*quantize)(const float* x, const QuantizedRows& row, std::size_t begin, std::size_t end);
  /// out = (x - mean) / sqrt(variance + epsilon) * weight + bias over n values; out may be x.
  void (*normalize)(const float* x, const float* weight, const float* bias, float epsilon,
                    std::size_t n, float* out);
  /// out = xx + (previous - xx) * mu: token shift.
  void (*shift)(const float* xx, const float* previous, const float* mu, std::size_t n, float* out);
  /// The decay in place: x = exp(-kDecayScale * sigmoid(bias + x)).
  void (*decay)(float* x, const float* bias, std::size_t n);
  /// x = sigmoid(bias + x) in place.
  void (*sigmoid)(float* x, const float* bias, std::size_t n);
  /// kk = k * k_k / max(|k * k_k|, 1e-12) over a head of n, then k *= 1 + (a - 1) * k_a.
  void (*keys)(float* k, const float* a, const float* k_k, const float* k_a, std::size_t n,
               float* kk);
  /// v += (v_first - v) * mix
  void (*value_residual)(float* v, const float* v_first, const float* mix, std::size_t n);
  /// S = S (diag(w) - kk (kk a)^T) + v k^T, y = S r.
  void (*head_step)(const HeadStep& step);
  /// y = (y + (sum_j r k r_k) * v) * g over a head of n.
  void (*bonus_and_gate)(float* y, const float* r, const float* k, const float* r_k, const float* v,
                         const float* g, std::size_t n);
};

/// Floats of scratch a product over `tokens` tokens needs: the sums of a column tile, and its
/// bytes.
constexpr std::size_t product_scratch(std::size_t tokens) {
  return tokens * kColumnTile + kColumnTile * std::size_t{256} / 4;
}

/// The fastest set this processor runs; never null.
const Kernels& best_kernels();
/// The sets compiled in that this processor runs, slowest first, for tests. Ends with null.
const Kernels* const* all_kernels();

}  // namespace gander
