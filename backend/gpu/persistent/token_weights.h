#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/model_weights.h"
#include "model/weights.h"

// Where a model's weights lie for the token kernel: all in one buffer, so that a kernel needs no
// addresses but offsets.
namespace gander::gpu {

/// A matrix or vectors in the buffer, and how they are stored there.
struct Placed {
  enum class Form : std::uint8_t {
    File,     ///< as in the file
    Tiles,    ///< row_tiles.h
    ByUnit,   ///< transposed_value.h
    Floats,   ///< as 32-bit floats: low-rank matrices of quantised types
    Vectors,  ///< [n][C] floats
  };
  Form form = Form::File;
  std::uint64_t offset = 0, bytes = 0;  ///< a multiple of 256, and what it takes
  Matrix matrix;                        ///< no rows: absent in layer 0
  std::vector<const std::vector<float>*> vectors;

  /// The type that the kernel reads.
  DataType type() const { return form == Form::Floats ? DataType::F32 : matrix.type; }
};

struct PlacedLayer {
  Placed ln1, mix, vectors, ln2, ffn_mix;
  Placed receptance, key, value, output, w1, a1, v1, g1, ffn_key;  ///< by rows
  Placed w2, a2, v2, g2;                                           ///< as in the file, or floats
  Placed ffn_value;                                                ///< by hidden unit
};

struct TokenWeights {
  Placed emb, ln0, ln_out, head;
  std::vector<PlacedLayer> layers;
  std::uint64_t bytes = 0;  ///< of the buffer
};

/// The weights outlive what is returned, which refers to them.
TokenWeights plan_token_weights(const Weights& weights);

/// Fills the buffer on all cores.
void upload_token_weights(const TokenWeights& placed, const View& buffer, Device& device,
                          const Progress& progress);

}  // namespace gander::gpu
