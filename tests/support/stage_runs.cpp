#include "tests/support/stage_runs.h"

#include <algorithm>
#include <limits>

#include "backend/gpu/recorder.h"
#include "backend/gpu/transposed_value.h"
#include "kernels/function_constants.h"
#include "tests/support/kernel_run.h"

namespace gander::gpu {

namespace {

std::uint32_t number(const Matrix& matrix) {
  return static_cast<std::uint32_t>(matrix.type);
}

std::uint32_t bits_of(std::initializer_list<const Matrix*> matrices) {
  std::uint32_t bits = 0;
  for (const Matrix* matrix : matrices) bits |= type_bit(matrix->type);
  return bits;
}

KernelRun stage_run(Device& device, std::string_view kernel, const Config& config,
                    std::uint32_t weight_types) {
  KernelRun run(device, kernel);
  run.constant(GANDER_WIDTH, config.width);
  run.constant(GANDER_HEADS, config.heads);
  run.constant(GANDER_HEAD_SIZE, config.head_size);
  run.constant(GANDER_FFN_WIDTH, config.ffn_width);
  run.constant(GANDER_VOCAB_SIZE, config.vocab_size);
  run.constant(GANDER_RANK_W, config.rank_w);
  run.constant(GANDER_RANK_A, config.rank_a);
  run.constant(GANDER_RANK_V, config.rank_v);
  run.constant(GANDER_RANK_G, config.rank_g);
  run.constant(GANDER_NORM_EPSILON, config.norm_epsilon);
  run.constant(GANDER_WEIGHT_TYPES, weight_types);
  return run;
}

// Vectors that lie one after the other in a buffer. One that is missing is NaN: not to be read.
std::vector<float> joined(std::initializer_list<const std::vector<float>*> parts,
                          std::size_t size) {
  std::vector<float> all;
  for (const std::vector<float>* part : parts) {
    all.insert(all.end(), part->begin(), part->end());
    if (part->empty()) all.insert(all.end(), size, std::numeric_limits<float>::quiet_NaN());
  }
  return all;
}

std::vector<float> joined(const LayerNormWeights& norm) {
  return joined({&norm.weight, &norm.bias}, norm.weight.size());
}

// A matrix that is not there is bound as one byte: a sanitizer sees if it is read.
std::span<const std::byte> bytes_of(const Matrix& matrix) {
  static constexpr std::byte kNothing[1] = {};
  if (matrix.rows == 0) return kNothing;
  return {matrix.data, matrix.size()};
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

std::uint32_t groups_for(std::uint32_t rows, std::uint32_t rows_per_group) {
  return (rows + rows_per_group - 1) / rows_per_group;
}

}  // namespace

std::vector<float> run_embed(Device& device, const StageCase& token, std::uint32_t threads) {
  const Weights& weights = token.weights();
  const std::vector<std::uint32_t> id = {token.token()};
  const std::vector<float> norm = joined(weights.ln0);
  std::vector<float> x(token.config().width);
  KernelRun run = stage_run(device, "embed", token.config(), bits_of({&weights.emb}));
  run.in(id);
  run.in(bytes_of(weights.emb));
  run.in(norm);
  run.out(x);
  run.parameters(EmbedParameters{number(weights.emb)});
  run.launch({1, 1}, threads, 4 * GANDER_EMBED_SCRATCH(token.config().width));
  return x;
}

TimeMixIn run_time_mix_in(Device& device, const StageCase& token, std::uint32_t layer,
                          StageShape shape) {
  const Config& config = token.config();
  const gander::LayerWeights& weights = token.weights().layers[layer];
  const TimeMixWeights& att = weights.att;
  const std::vector<float> x = token.rounded("x", layer);
  const std::vector<float> norm = joined(weights.ln1);
  const std::vector<float> mix =
      joined({&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g}, config.width);
  const std::size_t before_v = config.rank_w + config.rank_a;
  TimeMixIn out;
  out.projected.resize(std::size_t{3} * config.width);
  out.low_rank.resize(before_v + config.rank_v + config.rank_g);
  out.normalized.resize(config.width);

  std::uint32_t types = bits_of({&att.receptance, &att.key, &att.value, &att.w1, &att.a1, &att.g1});
  if (layer > 0) types |= bits_of({&att.v1});
  std::uint32_t groups = 0;
  for (const Matrix* matrix :
       {&att.receptance, &att.key, &att.value, &att.w1, &att.a1, &att.v1, &att.g1}) {
    groups += groups_for(matrix->rows, shape.rows);
  }
  KernelRun run = stage_run(device, "time_mix_in", config, types);
  run.in(x);
  run.in(token.before().att_shift(layer));
  run.in(norm);
  run.in(mix);
  for (const Matrix* matrix :
       {&att.receptance, &att.key, &att.value, &att.w1, &att.a1, &att.v1, &att.g1}) {
    run.in(bytes_of(*matrix));
  }
  run.out(out.projected);
  run.out(out.low_rank);
  run.out(out.normalized);
  run.parameters(TimeMixInParameters{shape.rows, number(att.receptance), number(att.key),
                                     number(att.value), number(att.w1), number(att.a1),
                                     number(att.v1), number(att.g1), layer > 0 ? 1U : 0U});
  run.launch({groups, 1}, shape.threads, 4 * GANDER_TIME_MIX_IN_SCRATCH(config.width));
  if (layer == 0) std::fill_n(out.low_rank.begin() + before_v, config.rank_v, 0.0F);
  return out;
}

Wkv run_wkv(Device& device, const StageCase& token, std::uint32_t layer, std::uint32_t threads) {
  const Config& config = token.config();
  const TimeMixWeights& att = token.weights().layers[layer].att;
  std::vector<float> projected;
  for (const char* name : {"r", "k", "v"}) {
    const std::vector<float> part = token.rounded(name, layer);
    projected.insert(projected.end(), part.begin(), part.end());
  }
  std::vector<float> low_rank = token.rounded("low_rank", layer);
  if (layer == 0) {  // not to be read
    std::fill_n(low_rank.begin() + config.rank_w + config.rank_a, config.rank_v,
                std::numeric_limits<float>::quiet_NaN());
  }
  const std::vector<float> vectors = joined(
      {&att.w0, &att.a0, &att.v0, &att.k_k, &att.k_a, &att.r_k, &att.ln_x.weight, &att.ln_x.bias},
      config.width);
  const std::vector<float> normalized = token.rounded("xx", layer);
  Wkv out;
  out.v_first = token.rounded("v", 0);
  out.state = copy_of(token.before().matrix(layer));
  out.shift.resize(config.width);
  out.gated.resize(config.width);

  std::uint32_t types = bits_of({&att.w2, &att.a2, &att.g2});
  if (layer > 0) types |= bits_of({&att.v2});
  KernelRun run = stage_run(device, "wkv", config, types);
  run.in(projected);
  run.in(low_rank);
  for (const Matrix* matrix : {&att.w2, &att.a2, &att.v2, &att.g2}) run.in(bytes_of(*matrix));
  run.in(vectors);
  run.in(normalized);
  if (layer == 0) {
    run.out(out.v_first);
  } else {
    run.in_out(out.v_first);
  }
  run.in_out(out.state);
  run.out(out.shift);
  run.out(out.gated);
  run.parameters(WkvParameters{number(att.w2), number(att.a2), number(att.v2), number(att.g2),
                               layer > 0 ? 1U : 0U});
  run.launch({config.heads, 1}, threads,
             4 * GANDER_WKV_SCRATCH(config.head_size, config.rank_w, config.rank_a, config.rank_v,
                                    config.rank_g));
  return out;
}

std::vector<float> run_time_mix_out(Device& device, const StageCase& token, std::uint32_t layer,
                                    StageShape shape) {
  const Config& config = token.config();
  const Matrix& output = token.weights().layers[layer].att.output;
  const std::vector<float> gated = token.rounded("y_gated", layer);
  std::vector<float> x = token.rounded("x", layer);
  KernelRun run = stage_run(device, "time_mix_out", config, bits_of({&output}));
  run.in(gated);
  run.in(bytes_of(output));
  run.in_out(x);
  run.parameters(RowsParameters{shape.rows, number(output)});
  run.launch({groups_for(config.width, shape.rows), 1}, shape.threads,
             4 * GANDER_TIME_MIX_OUT_SCRATCH(config.width));
  return x;
}

FfnKey run_ffn_key(Device& device, const StageCase& token, std::uint32_t layer, StageShape shape) {
  const Config& config = token.config();
  const gander::LayerWeights& weights = token.weights().layers[layer];
  const std::vector<float> x = token.rounded("x_att", layer);
  const std::vector<float> norm = joined(weights.ln2);
  FfnKey out;
  out.hidden.resize(config.ffn_width);
  out.normalized.resize(config.width);
  KernelRun run = stage_run(device, "ffn_key", config, bits_of({&weights.ffn.key}));
  run.in(x);
  run.in(token.before().ffn_shift(layer));
  run.in(norm);
  run.in(weights.ffn.x_k);
  run.in(bytes_of(weights.ffn.key));
  run.out(out.hidden);
  run.out(out.normalized);
  run.parameters(RowsParameters{shape.rows, number(weights.ffn.key)});
  run.launch({groups_for(config.ffn_width, shape.rows), 1}, shape.threads,
             4 * GANDER_FFN_KEY_SCRATCH(config.width));
  return out;
}

Head run_head(Device& device, const StageCase& token, StageShape shape) {
  const Config& config = token.config();
  const Weights& weights = token.weights();
  const std::vector<float> x = token.rounded("x_ffn", config.layers - 1);
  const std::vector<float> norm = joined(weights.ln_out);
  const std::uint32_t groups = groups_for(config.vocab_size, shape.rows);
  Head out;
  out.logits.resize(config.vocab_size);
  out.maxima.resize(std::size_t{2} * groups);
  KernelRun run = stage_run(device, "head", config, bits_of({&weights.head}));
  run.in(x);
  run.in(norm);
  run.in(bytes_of(weights.head));
  run.out(out.logits);
  run.out(out.maxima);
  run.parameters(RowsParameters{shape.rows, number(weights.head)});
  run.launch({groups, 1}, shape.threads, 4 * GANDER_HEAD_SCRATCH(config.width));
  return out;
}

FfnValue run_ffn_value(Device& device, const Matrix& value, const std::vector<float>& hidden,
                       const std::vector<float>& normalized, const std::vector<float>& x,
                       FfnValueShape shape) {
  Config config;
  config.width = value.rows;
  config.ffn_width = value.columns;
  const std::uint32_t tiles = (value.rows + 255) / 256;
  std::vector<std::byte> transposed(transposed_value_bytes(value.type, value.rows, value.columns));
  transpose_value(value, transposed);
  std::vector<float> slices(std::size_t{shape.slices} * tiles * 256,
                            std::numeric_limits<float>::quiet_NaN());
  FfnValue out;
  out.x = x;
  out.shift.resize(value.rows);
  out.counters.assign(tiles, 0);

  KernelRun run = stage_run(device, "ffn_value", config, bits_of({&value}));
  run.in(hidden);
  run.in(transposed);
  run.in(normalized);
  run.out(out.shift);
  run.in_out(slices);
  run.in_out(out.counters);
  run.in_out(out.x);
  run.parameters(FfnValueParameters{number(value), shape.slices, shape.adds_up ? 1U : 0U});
  run.launch({tiles, shape.slices}, shape.threads, 4 * GANDER_FFN_VALUE_SCRATCH(shape.threads));
  if (shape.slices == 1 || shape.adds_up) return out;

  KernelRun add = stage_run(device, "add_slices", config, 0);
  add.in(slices);
  add.in_out(out.x);
  add.parameters(AddSlicesParameters{shape.slices});
  add.launch({tiles, 1}, shape.threads);
  return out;
}

}  // namespace gander::gpu
