#include "backend/cpu/stages.h"

#include <algorithm>
#include <utility>

#include "model/quant/blocks.h"

namespace gander {

namespace {

struct Range {
  std::size_t begin, end;
};

// This thread's share of `count` items, in units of `unit`.
Range share(const StageContext& context, std::size_t count, std::size_t unit = 1) {
  const std::size_t units = (count + unit - 1) / unit;
  const std::size_t threads = context.pool.size();
  return {std::min(count, units * context.thread / threads * unit),
          std::min(count, units * (context.thread + 1) / threads * unit)};
}

float* product_scratch_of(const StageContext& context) {
  const std::size_t width = (context.weights.source->config.width + 15) / 16 * 16;
  return context.buffers.scratch[context.thread] + 2 * width;
}

// Rows of y[t] = epilogue(matrix x[t]) by decoding; strides are the matrix's own widths.
void stored_rows(const StageContext& context, const Matrix& matrix, const float* x, float* y,
                 Range rows, Epilogue epilogue = Epilogue::Store) {
  const MatrixProduct product = {matrix.type,
                                 matrix.data,
                                 matrix.row_size(),
                                 row_bytes(matrix.type, kColumnBlock),
                                 matrix.columns,
                                 x,
                                 matrix.columns,
                                 context.tokens,
                                 y,
                                 matrix.rows,
                                 product_scratch_of(context)};
  context.kernels.matrix_rows(product, rows.begin, rows.end, epilogue);
}

// The same on 8-bit activations; y or, for a sum that is added to y, another buffer collects the
// blocks of columns.
void packed_rows(const StageContext& context, const PackedMatrix& matrix, const QuantizedRows& x,
                 float* y, Range tiles, Epilogue epilogue, bool sparse) {
  const std::size_t first = tiles.begin * kTileRows;
  const std::size_t count = std::min(tiles.end * kTileRows, matrix.rows) - first;
  float* sum = epilogue == Epilogue::Add ? context.buffers.sum : y;
  for (std::size_t t = 0; t < context.tokens; ++t) {
    std::fill_n(sum + t * matrix.rows + first, count, 0.0F);
  }
  context.kernels.packed_tiles(
      {matrix, x, context.tokens, sum, matrix.rows, sparse && context.tokens == 1}, tiles.begin,
      tiles.end);
  if (epilogue == Epilogue::Store) return;
  for (std::size_t t = 0; t < context.tokens; ++t) {
    const std::size_t at = t * matrix.rows + first;
    context.kernels.finish(y + at, sum + at, count, epilogue);
  }
}

// This thread's rows: whole tiles, so that neighbours in groups of 32 have one owner. Returns them.
Range product(const StageContext& context, const CpuMatrix& matrix, const Input& x, float* y,
              Epilogue epilogue = Epilogue::Store, bool sparse = false) {
  const Range rows = share(context, matrix.stored.rows, kTileRows);
  if (rows.begin == rows.end) return rows;
  if (matrix.is_packed()) {
    const Range tiles = {rows.begin / kTileRows, (rows.end + kTileRows - 1) / kTileRows};
    packed_rows(context, matrix.packed, x.quantized, y, tiles, epilogue, sparse);
  } else {
    stored_rows(context, matrix.stored, x.values, y, rows, epilogue);
  }
  return rows;
}

// Columns of every token's input to 8 bits, where a packed matrix will read them.
void quantize(const StageContext& context, const Input& input, std::size_t t, Range columns) {
  if (!context.weights.any_packed || input.quantized.columns == 0) return;
  context.kernels.quantize(input.values + t * input.quantized.columns, input.quantized.row(t),
                           columns.begin, columns.end);
}

struct Shift {
  const std::vector<float>& mu;
  const Input& out;
};

// LayerNorm and token shift of this thread's tokens: out = xx + (previous - xx) * mu for each of
// `shifts`, where previous is the normalised vector of the token before. At the start of the chunk
// that is the state; at the start of a thread's share it is computed once more.
void normalize_and_shift(const StageContext& context, const LayerNormWeights& norm,
                         std::span<const float> state, std::initializer_list<Shift> shifts) {
  const std::size_t width = context.weights.source->config.width;
  const float epsilon = context.weights.source->config.norm_epsilon;
  const auto normalize = [&](std::size_t t, float* out) {
    context.kernels.normalize(context.buffers.x + t * width, norm.weight.data(), norm.bias.data(),
                              epsilon, width, out);
  };
  const Range tokens = share(context, context.tokens);
  if (tokens.begin == tokens.end) return;
  float* current = context.buffers.scratch[context.thread];
  float* spare = current + (width + 15) / 16 * 16;
  const float* previous = state.data();
  if (tokens.begin > 0) {
    normalize(tokens.begin - 1, spare);
    previous = spare;
  }
  float* next = current;
  for (std::size_t t = tokens.begin; t < tokens.end; ++t) {
    normalize(t, next);
    for (const Shift& shift : shifts) {
      context.kernels.shift(next, previous, shift.mu.data(), width, shift.out.values + t * width);
      quantize(context, shift.out, t, {0, width});
    }
    previous = next;
    next = next == current ? spare : current;
  }
  if (tokens.end == context.tokens) std::copy_n(previous, width, context.buffers.last);
}

// After the barrier that follows normalize_and_shift nobody reads the old shift state any more.
void keep_shift(const StageContext& context, std::span<float> state) {
  if (context.thread == 0) std::copy_n(context.buffers.last, state.size(), state.data());
}

}  // namespace

void embed(const StageContext& context, std::span<const TokenId> tokens) {
  const Weights& weights = *context.weights.source;
  const std::size_t width = weights.config.width;
  const Range mine = share(context, tokens.size());
  for (std::size_t t = mine.begin; t < mine.end; ++t) {
    float* x = context.buffers.x + t * width;
    dequantize(weights.emb.type, weights.emb.row(tokens[t]), {x, width});
    context.kernels.normalize(x, weights.ln0.weight.data(), weights.ln0.bias.data(),
                              weights.config.norm_epsilon, width, x);
  }
}

void time_mix_in(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const LayerWeights& weights = context.weights.source->layers[layer];
  const TimeMixWeights& att = weights.att;
  const CpuLayer& matrices = context.weights.layers[layer];
  const std::span<float> state = context.state.att_shift(layer);
  normalize_and_shift(context, weights.ln1, state,
                      {{att.x_r, b.xr},
                       {att.x_w, b.xw},
                       {att.x_k, b.xk},
                       {att.x_v, b.xv},
                       {att.x_a, b.xa},
                       {att.x_g, b.xg}});
  context.pool.barrier();
  keep_shift(context, state);
  product(context, matrices.receptance, b.xr, b.r);
  product(context, matrices.key, b.xk, b.k);
  product(context, matrices.value, b.xv, layer == 0 ? b.v_first : b.v);
  product(context, matrices.w1, b.xw, b.low_w, Epilogue::Tanh);
  product(context, matrices.a1, b.xa, b.low_a);
  product(context, matrices.g1, b.xg, b.low_g, Epilogue::Sigmoid);
  if (layer > 0) product(context, matrices.v1, b.xv, b.low_v);
}

void wkv(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const Kernels& kernels = context.kernels;
  const Config& config = context.weights.source->config;
  const TimeMixWeights& att = context.weights.source->layers[layer].att;
  const std::size_t n = config.head_size;
  const Range heads = share(context, config.heads);
  for (std::size_t head = heads.begin; head < heads.end; ++head) {
    const std::size_t channel = head * n;  // the head's first
    const Range rows_of_head = {channel, channel + n};
    stored_rows(context, att.w2, b.low_w, b.w, rows_of_head);
    stored_rows(context, att.a2, b.low_a, b.a, rows_of_head);
    stored_rows(context, att.g2, b.low_g, b.g, rows_of_head);
    if (layer > 0) stored_rows(context, att.v2, b.low_v, b.value_mix, rows_of_head);

    float* s = context.state.matrix(layer).data() + channel * n;
    for (std::size_t t = 0; t < context.tokens; ++t) {
      const std::size_t at = t * config.width + channel;
      kernels.decay(b.w + at, att.w0.data() + channel, n);
      kernels.sigmoid(b.a + at, att.a0.data() + channel, n);
      kernels.keys(b.k + at, b.a + at, att.k_k.data() + channel, att.k_a.data() + channel, n,
                   b.kk + at);
      const float* v = b.v_first + at;
      if (layer > 0) {
        kernels.sigmoid(b.value_mix + at, att.v0.data() + channel, n);
        kernels.value_residual(b.v + at, b.v_first + at, b.value_mix + at, n);
        v = b.v + at;
      }
      float* y = b.y.values + at;
      kernels.head_step({n, b.r + at, b.w + at, b.k + at, v, b.kk + at, b.a + at, s, y});
      // GroupNorm: its groups are the heads.
      kernels.normalize(y, att.ln_x.weight.data() + channel, att.ln_x.bias.data() + channel,
                        config.norm_epsilon * static_cast<float>(n), n, y);
      kernels.bonus_and_gate(y, b.r + at, b.k + at, att.r_k.data() + channel, v, b.g + at, n);
      if (n % 32 == 0) quantize(context, b.y, t, rows_of_head);
    }
  }
}

void time_mix_out(const StageContext& context, std::uint32_t layer) {
  product(context, context.weights.layers[layer].output, context.buffers.y, context.buffers.x,
          Epilogue::Add);
}

void ffn_key(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const LayerWeights& weights = context.weights.source->layers[layer];
  const std::span<float> state = context.state.ffn_shift(layer);
  normalize_and_shift(context, weights.ln2, state, {{weights.ffn.x_k, b.xk}});
  context.pool.barrier();
  keep_shift(context, state);
  const Range rows = product(context, context.weights.layers[layer].ffn_key, b.xk, b.h.values,
                             Epilogue::SquaredRelu);
  for (std::size_t t = 0; t < context.tokens; ++t) quantize(context, b.h, t, rows);
}

void ffn_value(const StageContext& context, std::uint32_t layer) {
  product(context, context.weights.layers[layer].ffn_value, context.buffers.h, context.buffers.x,
          Epilogue::Add, true);
}

void head(const StageContext& context, std::size_t wanted, float* logits) {
  const Weights& weights = *context.weights.source;
  const std::size_t width = weights.config.width;
  const std::size_t first = context.tokens - wanted;
  StageContext rows = context;
  rows.tokens = wanted;
  const Range mine = share(rows, wanted);
  for (std::size_t t = mine.begin; t < mine.end; ++t) {
    context.kernels.normalize(context.buffers.x + (first + t) * width, weights.ln_out.weight.data(),
                              weights.ln_out.bias.data(), weights.config.norm_epsilon, width,
                              context.buffers.xr.values + t * width);
    quantize(rows, context.buffers.xr, t, {0, width});
  }
  context.pool.barrier();
  product(rows, context.weights.head, context.buffers.xr, logits);
}

}  // namespace gander
