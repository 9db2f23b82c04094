#include "backend/gpu/layer_dispatcher.h"

#include "model/tensor.h"

namespace gander::gpu {

namespace {

constexpr std::uint32_t kFloat = sizeof(float);

// One row of the embedding is read.
Binding one_row(const MatrixView& matrix) {
  return {matrix.view, row_bytes(matrix.type, matrix.columns), 0};
}

}  // namespace

void LayerDispatcher::embed(Program& program, const View& token) const {
  const MatrixView& emb = memory_.weights.emb;
  recorder_.record(
      program, "embed", config().layers, type_bit(emb.type),
      {in(token), one_row(emb), in(memory_.weights.ln0), out(memory_.buffers.x)},
      EmbedParameters{type_number(emb)},
      {.threads = 1024, .group_memory = GANDER_EMBED_SCRATCH(config().width) * kFloat});
}

void LayerDispatcher::encode_attention(Program& program, std::uint32_t layer) const {
  time_mix_in(program, layer);
  wkv(program, layer);
  time_mix_out(program, layer);
}

void LayerDispatcher::encode_ffn(Program& program, std::uint32_t layer) const {
  ffn_key(program, layer);
  ffn_value(program, layer);
}

void LayerDispatcher::time_mix_in(Program& program, std::uint32_t layer) const {
  const LayerWeights& w = memory_.weights.layers[layer];
  const LayerBuffers& b = memory_.buffers;
  const bool has_value_mix = layer > 0;
  std::uint32_t groups = 0;
  for (const MatrixView* matrix : {&w.receptance, &w.key, &w.value, &w.w1, &w.a1, &w.v1, &w.g1}) {
    groups += groups_for(matrix->rows, shapes_.time_mix_in);
  }
  const Binding v1 = has_value_mix ? in(w.v1.view) : Binding{w.v1.view};
  recorder_.record(
      program, "time_mix_in", layer,
      type_bits({&w.receptance, &w.key, &w.value, &w.w1, &w.a1, &w.v1, &w.g1}),
      {in(b.x), in(memory_.state.att_shift[layer]), in(w.ln1), in(w.mix), in(w.receptance.view),
       in(w.key.view), in(w.value.view), in(w.w1.view), in(w.a1.view), v1, in(w.g1.view),
       out(b.projected), out(b.low_rank), out(b.normalized)},
      TimeMixInParameters{shapes_.time_mix_in.rows, type_number(w.receptance), type_number(w.key),
                          type_number(w.value), type_number(w.w1), type_number(w.a1),
                          type_number(w.v1), type_number(w.g1), has_value_mix ? 1U : 0U},
      {{groups, 1},
       shapes_.time_mix_in.threads,
       GANDER_TIME_MIX_IN_SCRATCH(config().width) * kFloat});
}

void LayerDispatcher::wkv(Program& program, std::uint32_t layer) const {
  const LayerWeights& w = memory_.weights.layers[layer];
  const LayerBuffers& b = memory_.buffers;
  const bool has_value_mix = layer > 0;
  const Binding v2 = has_value_mix ? in(w.v2.view) : Binding{w.v2.view};
  recorder_.record(
      program, "wkv", layer, type_bits({&w.w2, &w.a2, &w.v2, &w.g2}),
      {in(b.projected), in(b.low_rank), in(w.w2.view), in(w.a2.view), v2, in(w.g2.view),
       in(w.vectors), in(b.normalized), has_value_mix ? in(b.v_first) : out(b.v_first),
       in_out(memory_.state.matrix[layer]), out(memory_.state.att_shift[layer]), out(b.gated)},
      WkvParameters{type_number(w.w2), type_number(w.a2), type_number(w.v2), type_number(w.g2),
                    has_value_mix ? 1U : 0U},
      {{config().heads, 1},
       shapes_.wkv_threads,
       GANDER_WKV_SCRATCH(config().head_size, config().rank_w, config().rank_a, config().rank_v,
                          config().rank_g) *
           kFloat});
}

void LayerDispatcher::time_mix_out(Program& program, std::uint32_t layer) const {
  const MatrixView& output = memory_.weights.layers[layer].output;
  recorder_.record(program, "time_mix_out", layer, type_bit(output.type),
                   {in(memory_.buffers.gated), in(output.view), in_out(memory_.buffers.x)},
                   RowsParameters{shapes_.time_mix_out.rows, type_number(output)},
                   {{groups_for(output.rows, shapes_.time_mix_out), 1},
                    shapes_.time_mix_out.threads,
                    GANDER_TIME_MIX_OUT_SCRATCH(config().width) * kFloat});
}

void LayerDispatcher::ffn_key(Program& program, std::uint32_t layer) const {
  const LayerWeights& w = memory_.weights.layers[layer];
  const LayerBuffers& b = memory_.buffers;
  recorder_.record(program, "ffn_key", layer, type_bit(w.ffn_key.type),
                   {in(b.x), in(memory_.state.ffn_shift[layer]), in(w.ln2), in(w.ffn_mix),
                    in(w.ffn_key.view), out(b.hidden), out(b.normalized)},
                   RowsParameters{shapes_.ffn_key.rows, type_number(w.ffn_key)},
                   {{groups_for(w.ffn_key.rows, shapes_.ffn_key), 1},
                    shapes_.ffn_key.threads,
                    GANDER_FFN_KEY_SCRATCH(config().width) * kFloat});
}

void LayerDispatcher::ffn_value(Program& program, std::uint32_t layer) const {
  const MatrixView& value = memory_.weights.layers[layer].ffn_value;
  const LayerBuffers& b = memory_.buffers;
  const bool adds_up = shapes_.value_slices == 1 || recorder_.device().info().device_fences;
  const std::uint32_t tiles = value_tiles(config());
  recorder_.record(
      program, "ffn_value", layer, type_bit(value.type),
      {in(b.hidden), in(value.view), in(b.normalized), out(memory_.state.ffn_shift[layer]),
       in_out(b.slices), in_out(b.counters), in_out(b.x)},
      FfnValueParameters{type_number(value), shapes_.value_slices, adds_up ? 1U : 0U},
      {{tiles, shapes_.value_slices},
       shapes_.value_threads,
       GANDER_FFN_VALUE_SCRATCH(shapes_.value_threads) * kFloat});
  if (adds_up) return;
  recorder_.record(program, "add_slices", layer, 0, {in(b.slices), in_out(b.x)},
                   AddSlicesParameters{shapes_.value_slices}, {{tiles, 1}, 256, 0});
}

void LayerDispatcher::head(Program& program) const {
  const MatrixView& head = memory_.weights.head;
  const LayerBuffers& b = memory_.buffers;
  recorder_.record(
      program, "head", config().layers, type_bit(head.type),
      {in(b.x), in(memory_.weights.ln_out), in(head.view), out(b.logits), out(b.maxima)},
      RowsParameters{shapes_.head.rows, type_number(head)},
      {{groups_for(head.rows, shapes_.head), 1},
       shapes_.head.threads,
       GANDER_HEAD_SCRATCH(config().width) * kFloat});
}

Program record_token(const Config& config, const ModelMemory& memory, const LaunchShapes& shapes,
                     Device& device, const View& token) {
  const Recorder recorder(device, config);
  const LayerDispatcher dispatcher(recorder, memory, shapes);
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
