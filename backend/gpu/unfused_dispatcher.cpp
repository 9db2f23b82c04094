#include "backend/gpu/unfused_dispatcher.h"

#include "backend/gpu/buffer_pool.h"
#include "backend/gpu/primitives.h"
#include "backend/gpu/recording_device.h"

namespace gander::gpu {

UnfusedBuffers make_unfused_buffers(const Config& config, Device& device) {
  UnfusedBuffers buffers;
  BufferPool pool;
  const auto add = [&pool](View& view, std::uint64_t floats) {
    pool.add(view, floats * sizeof(float));
  };
  for (View* view :
       {&buffers.att_x, &buffers.att_rx, &buffers.att_wx, &buffers.att_kx, &buffers.att_vx,
        &buffers.att_ax, &buffers.att_gx, &buffers.att_r, &buffers.att_k, &buffers.att_v,
        &buffers.att_w, &buffers.att_a, &buffers.att_g, &buffers.att_kk, &buffers.att_vv,
        &buffers.att_o, &buffers.ffn_x, &buffers.ffn_kx, &buffers.ffn_v}) {
    add(*view, config.width);
  }
  add(buffers.aux_w, config.rank_w);
  add(buffers.aux_a, config.rank_a);
  add(buffers.aux_v, config.rank_v);
  add(buffers.aux_g, config.rank_g);
  add(buffers.att_n, std::uint64_t{4} * config.width);
  add(buffers.ffn_k, config.ffn_width);
  pool.allocate(device, "unfused activations");
  return buffers;
}

std::uint64_t unfused_bytes(const Config& config, const DeviceInfo& info) {
  RecordingDevice device(info);
  make_unfused_buffers(config, device);
  return device.allocated_bytes();
}

View UnfusedDispatcher::vector(const View& together, std::uint32_t index) const {
  const std::uint64_t bytes = config().width * sizeof(float);
  return together.part(index * bytes, bytes);
}

void UnfusedDispatcher::embed(Program& program, const View& token) const {
  const Primitives op(recorder_, program, config().layers);
  op.lookup(token, memory_.weights.emb, memory_.buffers.x);
}

void UnfusedDispatcher::encode_attention(Program& program, std::uint32_t layer) const {
  const LayerWeights& w = memory_.weights.layers[layer];
  const UnfusedBuffers& b = buffers_;
  const View& x = memory_.buffers.x;
  const View& v_first = memory_.buffers.v_first;
  const View& shift = memory_.state.att_shift[layer];
  const View& state = memory_.state.matrix[layer];
  const View w0 = vector(w.vectors, 0);
  const View a0 = vector(w.vectors, 1);
  const View v0 = vector(w.vectors, 2);
  const View k_k = vector(w.vectors, 3);
  const View k_a = vector(w.vectors, 4);
  const View r_k = vector(w.vectors, 5);
  const Primitives op(recorder_, program, layer);

  if (layer == 0) {  // ln0
    op.layer_norm(x);
    op.mul(vector(memory_.weights.ln0, 0), x);
    op.add(vector(memory_.weights.ln0, 1), x);
  }

  // ln1 and the six token shifts
  op.blit(x, b.att_x);
  op.layer_norm(b.att_x);
  op.mul(vector(w.ln1, 0), b.att_x);
  op.add(vector(w.ln1, 1), b.att_x);
  op.token_shift(b.att_x, shift, vector(w.mix, 0), b.att_rx);
  op.token_shift(b.att_x, shift, vector(w.mix, 1), b.att_wx);
  op.token_shift(b.att_x, shift, vector(w.mix, 2), b.att_kx);
  op.token_shift(b.att_x, shift, vector(w.mix, 3), b.att_vx);
  op.token_shift(b.att_x, shift, vector(w.mix, 4), b.att_ax);
  op.token_shift(b.att_x, shift, vector(w.mix, 5), b.att_gx);
  op.blit(b.att_x, shift);

  // r, k, v
  op.matmul(w.receptance, b.att_rx, b.att_r);
  op.matmul(w.key, b.att_kx, b.att_k);
  op.matmul(w.value, b.att_vx, b.att_v);

  // decay: w = exp(-e^-0.5 sigmoid(w0 + w2 tanh(w1 x)))
  op.matmul(w.w1, b.att_wx, b.aux_w, GANDER_ACTIVATION_TANH);
  op.matmul(w.w2, b.aux_w, b.att_w);
  op.add_activate(w0, b.att_w, GANDER_ACTIVATION_SIGMOID);
  op.affine(b.att_w, static_cast<float>(-kDecayScale), 0.0F);
  op.activate(b.att_w, GANDER_ACTIVATION_EXP);

  // in-context learning rate: a = sigmoid(a0 + a2 a1 x)
  op.matmul(w.a1, b.att_ax, b.aux_a);
  op.matmul(w.a2, b.aux_a, b.att_a);
  op.add_activate(a0, b.att_a, GANDER_ACTIVATION_SIGMOID);

  // gate: g = g2 sigmoid(g1 x)
  op.matmul(w.g1, b.att_gx, b.aux_g, GANDER_ACTIVATION_SIGMOID);
  op.matmul(w.g2, b.aux_g, b.att_g);

  // value residual: v = v + (v_first - v) ∘ sigmoid(v0 + v2 v1 x)
  if (layer == 0) {
    op.blit(b.att_v, v_first);
  } else {
    op.matmul(w.v1, b.att_vx, b.aux_v);
    op.matmul(w.v2, b.aux_v, b.att_vv);
    op.add_activate(v0, b.att_vv, GANDER_ACTIVATION_SIGMOID);
    op.lerp(b.att_vv, v_first, b.att_v);
  }

  // kk = normalised k ∘ k_k, of k before its adjustment
  op.blit(b.att_k, b.att_kk);
  op.mul(k_k, b.att_kk);
  op.l2_norm(b.att_kk);
  op.control_k(k_a, b.att_a, b.att_k);
  op.pack_kvakk(b.att_k, b.att_v, b.att_a, b.att_kk, b.att_n);

  // the recurrence, group norm, bonus, gate
  op.time_mix(b.att_r, b.att_w, b.att_n, state, b.att_x);
  op.group_norm(b.att_x);
  op.mul(vector(w.vectors, 6), b.att_x);
  op.add(vector(w.vectors, 7), b.att_x);
  op.time_first(r_k, b.att_r, b.att_n, b.att_x);
  op.mul(b.att_g, b.att_x);

  op.matmul(w.output, b.att_x, b.att_o);
  op.add(b.att_o, x);
}

void UnfusedDispatcher::encode_ffn(Program& program, std::uint32_t layer) const {
  const LayerWeights& w = memory_.weights.layers[layer];
  const UnfusedBuffers& b = buffers_;
  const View& x = memory_.buffers.x;
  const View& shift = memory_.state.ffn_shift[layer];
  const Primitives op(recorder_, program, layer);
  op.blit(x, b.ffn_x);
  op.layer_norm(b.ffn_x);
  op.mul(vector(w.ln2, 0), b.ffn_x);
  op.add(vector(w.ln2, 1), b.ffn_x);
  op.token_shift(b.ffn_x, shift, w.ffn_mix, b.ffn_kx);
  op.matmul(w.ffn_key, b.ffn_kx, b.ffn_k, GANDER_ACTIVATION_SQUARED_RELU);
  op.matmul_sparse(w.ffn_value, b.ffn_k, b.ffn_v);
  op.channel_mix(b.ffn_v, b.ffn_x, shift);
  op.add(b.ffn_x, x);
}

Program record_unfused_token(const Config& config, const ModelMemory& memory,
                             const UnfusedBuffers& buffers, const LaunchShapes& shapes,
                             Device& device, const View& token) {
  const Recorder recorder(device, config);
  const UnfusedDispatcher dispatcher(recorder, memory, shapes, buffers);
  Program program;
  dispatcher.embed(program, token);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    dispatcher.encode_attention(program, layer);
    dispatcher.encode_ffn(program, layer);
  }
  dispatcher.head(program);
  return program;
}

}  // namespace gander::gpu
