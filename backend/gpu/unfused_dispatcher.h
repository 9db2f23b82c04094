#pragma once

#include <cstdint>

#include "backend/gpu/layer_dispatcher.h"

namespace gander::gpu {

/// Every intermediate of a layer in a place of its own, for one token; floats.
struct UnfusedBuffers {
  View att_x;  ///< [C] after ln1; later y of the recurrence
  View att_rx, att_wx, att_kx, att_vx, att_ax, att_gx;  ///< [C] mixed with the token before
  View att_r, att_k, att_v, att_w, att_a, att_g;        ///< [C]
  View aux_w, aux_a, aux_v, aux_g;                      ///< [rank] between the low-rank matrices
  View att_kk, att_vv;                                  ///< [C] key to remove, share of v_first
  View att_n;                                           ///< [4][C] k, v, a, kk
  View att_o;                                           ///< [C] what time mixing adds to x
  View ffn_x, ffn_kx;                                   ///< [C]
  View ffn_k;                                           ///< [F]
  View ffn_v;                                           ///< [C]
};

UnfusedBuffers make_unfused_buffers(const Config& config, Device& device);
/// Bytes that make_unfused_buffers allocates.
std::uint64_t unfused_bytes(const Config& config, const DeviceInfo& info);

/// Records a layer without fusing: an operation is a dispatch, and each waits for the one before.
/// 50 dispatches in every layer; the first has no value residual, but ln0. Weights, x, v_first,
/// logits and the state are those of the fused stages, so that the two can be compared, and take
/// turns.
class UnfusedDispatcher {
 public:
  /// All arguments outlive the dispatcher.
  UnfusedDispatcher(const Recorder& recorder, const ModelMemory& memory, const LaunchShapes& shapes,
                    const UnfusedBuffers& buffers)
      : recorder_(recorder), memory_(memory), buffers_(buffers), fused_(recorder, memory, shapes) {}

  /// x = the row of the embedding that `token` (a uint) names; ln0 is part of layer 0.
  void embed(Program& program, const View& token) const;
  void encode_attention(Program& program, std::uint32_t layer) const;
  void encode_ffn(Program& program, std::uint32_t layer) const;
  /// The fused one: sampling takes what it finds out about the logits.
  void head(Program& program) const { fused_.head(program); }

 private:
  const Config& config() const { return recorder_.config(); }
  // Part `index` of vectors that lie together.
  View vector(const View& together, std::uint32_t index) const;

  const Recorder& recorder_;
  const ModelMemory& memory_;
  const UnfusedBuffers& buffers_;
  LayerDispatcher fused_;
};

/// As record_token, without fusing.
Program record_unfused_token(const Config& config, const ModelMemory& memory,
                             const UnfusedBuffers& buffers, const LaunchShapes& shapes,
                             Device& device, const View& token);

}  // namespace gander::gpu
