#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/cpu/kernels.h"
#include "model/config.h"

namespace gander {

/// What a matrix reads, [tokens][columns]: as floats, and in 8 bits for quantised matrices.
struct Input {
  float* values;
  QuantizedRows quantized;  ///< columns = 0 when they are no multiple of 32
};

/// What lives between the stages of a layer, for a chunk of tokens; shared by all layers. Every
/// array is [tokens][C] unless a width is named, starts on a cache line, and lies in one
/// allocation.
struct Activations {
  Activations(const Config& config, std::size_t tokens, unsigned threads);

  float* x;                           // the residual stream
  Input xr, xw, xk, xv, xa, xg;       // after the token shift; xk serves channel mixing too
  float *r, *k, *v;                   // stage B turns k and v into the adjusted ones
  Input low_w, low_a, low_v, low_g;   // [tokens][rank], the middle of the low-rank products
  float *w, *a, *g, *kk, *value_mix;  // stage B's own
  float* v_first;                     // v of layer 0
  Input y;                            // what the output matrix reads
  Input h;                            // [tokens][F]
  float* last;                        // [sequences][C] normalised x of its last token: the next
                                      // shift state
  std::vector<float*> scratch;        // per thread: two rows of C, then a product's scratch

 private:
  template <typename Take>
  void lay_out(const Config& config, std::size_t tokens, Take take);

  struct Free {
    void operator()(float* memory) const;
  };
  std::unique_ptr<float[], Free> memory_;
};

}  // namespace gander
