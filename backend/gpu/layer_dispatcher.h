#pragma once

#include <cstdint>

#include "backend/gpu/launch_shapes.h"
#include "backend/gpu/layer_buffers.h"
#include "backend/gpu/model_weights.h"
#include "backend/gpu/recorder.h"

namespace gander::gpu {

/// Everything a token program is recorded over: where weights, activations and state are.
struct ModelMemory {
  ModelWeights weights;
  LayerBuffers buffers;
  StateBuffers state;
};

/// Records the fused stages of kernels/README.md: five dispatches a layer.
class LayerDispatcher {
 public:
  /// All arguments outlive the dispatcher.
  LayerDispatcher(const Recorder& recorder, const ModelMemory& memory, const LaunchShapes& shapes)
      : recorder_(recorder), memory_(memory), shapes_(shapes) {}

  /// `token` is the uint that names the row of the embedding.
  void embed(Program& program, const View& token) const;
  void encode_attention(Program& program, std::uint32_t layer) const;  ///< stages A, B, C
  void encode_ffn(Program& program, std::uint32_t layer) const;        ///< stages D, E
  void head(Program& program) const;

  void time_mix_in(Program& program, std::uint32_t layer) const;   ///< A
  void wkv(Program& program, std::uint32_t layer) const;           ///< B
  void time_mix_out(Program& program, std::uint32_t layer) const;  ///< C
  void ffn_key(Program& program, std::uint32_t layer) const;       ///< D
  void ffn_value(Program& program, std::uint32_t layer) const;     ///< E

 private:
  const Config& config() const { return recorder_.config(); }

  const Recorder& recorder_;
  const ModelMemory& memory_;
  const LaunchShapes& shapes_;
};

/// embed from the token in `token`, all layers, head. Everything before the last dispatch computes
/// the state alone.
Program record_token(const Config& config, const ModelMemory& memory, const LaunchShapes& shapes,
                     Device& device, const View& token);

}  // namespace gander::gpu
