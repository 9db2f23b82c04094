#pragma once

#include <cstdlib>
#include <span>

#include "base/error.h"
#include "model/checkpoint/tensor_source.h"
#include "model/weights.h"

namespace gander {

/// A sum over bytes, so that a sanitizer sees every one of them read.
inline unsigned touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += std::to_integer<unsigned>(byte);
  return sum;
}

/// Reads everything a parsed checkpoint points at, and makes a model of it if it is one.
inline void exercise_source(const TensorSource& source) {
  static volatile unsigned sink;
  for (const Tensor& tensor : source.tensors) sink = sink + touch(tensor.bytes);
  try {
    const Weights weights = load_weights(source);
    const auto touch_matrix = [](const Matrix& matrix) {
      sink = sink + touch({matrix.data, matrix.size()});
    };
    touch_matrix(weights.emb);
    touch_matrix(weights.head);
    for (const LayerWeights& layer : weights.layers) {
      const TimeMixWeights& att = layer.att;
      for (const Matrix* matrix :
           {&att.w1, &att.w2, &att.a1, &att.a2, &att.v1, &att.v2, &att.g1, &att.g2, &att.receptance,
            &att.key, &att.value, &att.output, &layer.ffn.key, &layer.ffn.value}) {
        touch_matrix(*matrix);
      }
      if (att.r_k.size() != weights.config.width) std::abort();
    }
    sink = sink + static_cast<unsigned>(bytes_per_token(weights));
  } catch (const Error&) {
  }
}

}  // namespace gander
