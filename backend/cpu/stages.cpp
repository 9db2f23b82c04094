#include "backend/cpu/stages.h"

#include <algorithm>
#include <array>
#include <utility>

#include "model/quant/blocks.h"

namespace gander {

namespace {

struct ItemRange {
  std::size_t begin, end;
};

// Item `index` of `count` things dealt out `size` at a time.
ItemRange item_range(std::size_t index, std::size_t size, std::size_t count) {
  return {index * size, std::min(count, (index + 1) * size)};
}

std::size_t items_of(std::size_t count, std::size_t size) {
  return (count + size - 1) / size;
}

float* product_scratch_of(const StageContext& context) {
  const std::size_t width = (context.weights.source->config.width + 15) / 16 * 16;
  return context.buffers.scratch[context.worker.index()] + 2 * width;
}

// Columns of a token's input to 8 bits, where a quantised matrix will read them.
void quantize(const StageContext& context, const Input& input, std::size_t t, ItemRange columns) {
  if (!context.weights.any_quantized || input.quantized.columns == 0) return;
  context.kernels.quantize(input.values + t * input.quantized.columns, input.quantized.row(t),
                           columns.begin, columns.end);
}

// y[t] = epilogue(matrix x[t]), and in 8 bits where y has room for it.
struct Product {
  const PackedMatrix& matrix;
  const Input& x;
  Input y;
  Epilogue epilogue = Epilogue::Store;
};

void product_rows(const StageContext& context, const Product& product, ItemRange rows) {
  const PackedMatrix& matrix = product.matrix;
  if (rows.begin >= matrix.rows) return;
  context.kernels.packed_tiles(
      {matrix, product.x.values, product.x.quantized, context.tokens, product.y.values, matrix.rows,
       product.epilogue, product_scratch_of(context)},
      rows.begin / matrix.tile_rows, items_of(rows.end, matrix.tile_rows));
  for (std::size_t t = 0; t < context.tokens; ++t) quantize(context, product.y, t, rows);
}

// Rows of a matrix that one thread claims at a time: whole tiles (so that outputs in groups of 32
// have one owner), about `bytes` of weights, or fewer when several tokens make each cost more.
std::size_t rows_of_item(const PackedMatrix& matrix, std::size_t tokens, std::size_t bytes) {
  if (matrix.rows == 0) return kRowTile;
  const std::size_t work = matrix.tile_size() * std::min<std::size_t>(tokens, 8);
  return matrix.tile_rows * std::max<std::size_t>(1, bytes / work);
}

// Long items read memory faster, short ones leave less to wait for at the end of a step.
std::size_t item_bytes(std::span<const Product> products, std::size_t threads) {
  std::size_t total = 0;
  for (const Product& product : products) total += product.matrix.size();
  return std::clamp<std::size_t>(total / (8 * threads), 32 << 10, 256 << 10);
}

// Items are claimed one after the other by all threads. Neighbours in a matrix share cache lines of
// the output and follow each other in memory: each thread should meet mostly its own part.
std::size_t spread(std::size_t item, std::size_t count, std::size_t threads) {
  const std::size_t part = count / threads;
  return item < part * threads ? item % threads * part + item / threads : item;
}

// The products in one step; after(rows) follows each item.
template <typename After>
void multiply(const StageContext& context, std::span<const Product> products, After after) {
  const std::size_t bytes = item_bytes(products, context.worker.threads());
  std::array<std::size_t, 7> ends = {};
  std::size_t count = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const PackedMatrix& matrix = products[i].matrix;
    count += items_of(matrix.rows, rows_of_item(matrix, context.tokens, bytes));
    ends[i] = count;
  }
  context.worker.share(count, [&](std::size_t item) {
    std::size_t i = 0;
    while (item >= ends[i]) ++i;
    const PackedMatrix& matrix = products[i].matrix;
    const std::size_t first = i == 0 ? 0 : ends[i - 1];
    const ItemRange rows =
        item_range(spread(item - first, ends[i] - first, context.worker.threads()),
                   rows_of_item(matrix, context.tokens, bytes), matrix.rows);
    product_rows(context, products[i], rows);
    after(rows);
  });
}

void multiply(const StageContext& context, std::span<const Product> products) {
  multiply(context, products, [](ItemRange) {});
}

struct Shift {
  const std::vector<float>& mu;
  const Input& out;
};

// LayerNorm and token shift: out = xx + (previous - xx) * mu for each of `shifts`, where previous
// is the normalised vector of the token before: for a sequence's first row that is the state, at
// the start of an item it is computed once more. The next states wait in buffers.last until nobody
// reads the old ones. shift_state(state) is the state's part.
template <typename ShiftState>
void normalize_and_shift(const StageContext& context, const LayerNormWeights& norm,
                         ShiftState shift_state, std::initializer_list<Shift> shifts) {
  const std::span<const SequenceRows> sequences = context.sequences;
  const std::size_t width = context.weights.source->config.width;
  const float epsilon = context.weights.source->config.norm_epsilon;
  const auto normalize = [&](std::size_t t, float* out) {
    context.kernels.normalize(context.buffers.x + t * width, norm.weight.data(), norm.bias.data(),
                              epsilon, width, out);
  };
  // Long items repeat little, but single tokens of many sequences have nothing to repeat.
  const std::size_t size = std::min<std::size_t>(8, items_of(context.tokens, sequences.size()));
  context.worker.share(items_of(context.tokens, size), [&](std::size_t item) {
    const ItemRange tokens = item_range(item, size, context.tokens);
    float* next = context.buffers.scratch[context.worker.index()];
    float* spare = next + (width + 15) / 16 * 16;
    auto sequence = std::ranges::upper_bound(sequences, tokens.begin, {}, &SequenceRows::end);
    const float* previous = spare;
    if (tokens.begin > sequence->begin) normalize(tokens.begin - 1, spare);
    for (std::size_t t = tokens.begin; t < tokens.end; ++t) {
      if (t == sequence->end) ++sequence;
      if (t == sequence->begin) previous = shift_state(*sequence->state).data();
      normalize(t, next);
      for (const Shift& shift : shifts) {
        context.kernels.shift(next, previous, shift.mu.data(), width, shift.out.values + t * width);
        quantize(context, shift.out, t, {0, width});
      }
      if (t + 1 == sequence->end) {
        const auto index = static_cast<std::size_t>(sequence - sequences.begin());
        std::copy_n(next, width, context.buffers.last + index * width);
      }
      previous = next;
      std::swap(next, spare);
    }
  });
}

// Channels of the next shift state of a sequence, by its number.
void keep_shift(const StageContext& context, std::size_t sequence, std::span<float> state,
                ItemRange channels) {
  const float* last = context.buffers.last + sequence * state.size();
  std::copy(last + channels.begin, last + channels.end,
            state.begin() + static_cast<std::ptrdiff_t>(channels.begin));
}

// The recurrence of a head for a token, from what the matrices made of it to the gated y.
void wkv_token(const StageContext& context, std::uint32_t layer, std::size_t t, std::size_t channel,
               float* s) {
  Activations& b = context.buffers;
  const Kernels& kernels = context.kernels;
  const Config& config = context.weights.source->config;
  const TimeMixWeights& att = context.weights.source->layers[layer].att;
  const std::size_t n = config.head_size;
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
}

}  // namespace

void embed(const StageContext& context, std::span<const TokenId> tokens) {
  const Weights& weights = *context.weights.source;
  const std::size_t width = weights.config.width;
  context.worker.share(tokens.size(), [&](std::size_t t) {
    float* x = context.buffers.x + t * width;
    dequantize(weights.emb.type, weights.emb.row(tokens[t]), {x, width});
    context.kernels.normalize(x, weights.ln0.weight.data(), weights.ln0.bias.data(),
                              weights.config.norm_epsilon, width, x);
  });
}

void time_mix_in(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const LayerWeights& weights = context.weights.source->layers[layer];
  const TimeMixWeights& att = weights.att;
  const CpuLayer& matrices = context.weights.layers[layer];
  normalize_and_shift(context, weights.ln1, [&](State& state) { return state.att_shift(layer); },
                      {{att.x_r, b.xr},
                       {att.x_w, b.xw},
                       {att.x_k, b.xk},
                       {att.x_v, b.xv},
                       {att.x_a, b.xa},
                       {att.x_g, b.xg}});
  const Product products[] = {{matrices.receptance, b.xr, {b.r, {}}},
                              {matrices.key, b.xk, {b.k, {}}},
                              {matrices.value, b.xv, {layer == 0 ? b.v_first : b.v, {}}},
                              {matrices.w1, b.xw, b.low_w, Epilogue::Tanh},
                              {matrices.a1, b.xa, b.low_a},
                              {matrices.g1, b.xg, b.low_g, Epilogue::Sigmoid},
                              {matrices.v1, b.xv, b.low_v}};  // no rows in layer 0
  multiply(context, products);
}

void wkv(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const Config& config = context.weights.source->config;
  const CpuLayer& matrices = context.weights.layers[layer];
  const Product low_rank[] = {{matrices.w2, b.low_w, {b.w, {}}},
                              {matrices.a2, b.low_a, {b.a, {}}},
                              {matrices.g2, b.low_g, {b.g, {}}},
                              {matrices.v2, b.low_v, {b.value_mix, {}}}};  // no rows in layer 0
  const std::size_t n = config.head_size;
  const bool whole_tiles = n % kRowTile == 0;
  // A head's rows belong to its item, unless the sequences share the reading of them.
  const bool own_rows = whole_tiles && context.sequences.size() == 1;
  if (!own_rows) multiply(context, low_rank);
  context.worker.share(config.heads * context.sequences.size(), [&](std::size_t item) {
    const std::size_t index = item / config.heads;
    const SequenceRows& sequence = context.sequences[index];
    const std::size_t channel = item % config.heads * n;  // the head's first
    const ItemRange rows_of_head = {channel, channel + n};
    keep_shift(context, index, sequence.state->att_shift(layer), rows_of_head);
    for (const Product& product : low_rank) {
      if (own_rows) product_rows(context, product, rows_of_head);
    }
    float* s = sequence.state->matrix(layer).data() + channel * n;
    for (std::size_t t = sequence.begin; t < sequence.end; ++t) {
      wkv_token(context, layer, t, channel, s);
      if (whole_tiles) quantize(context, b.y, t, rows_of_head);
    }
  });
}

void time_mix_out(const StageContext& context, std::uint32_t layer) {
  const Activations& b = context.buffers;
  const Config& config = context.weights.source->config;
  if (config.head_size % kRowTile != 0) {
    context.worker.share(context.tokens, [&](std::size_t t) {
      quantize(context, b.y, t, {0, config.width});
    });
  }
  const Product product[] = {{context.weights.layers[layer].output, b.y, {b.x, {}}, Epilogue::Add}};
  multiply(context, product);
}

void ffn_key(const StageContext& context, std::uint32_t layer) {
  Activations& b = context.buffers;
  const LayerWeights& weights = context.weights.source->layers[layer];
  normalize_and_shift(context, weights.ln2, [&](State& state) { return state.ffn_shift(layer); },
                      {{weights.ffn.x_k, b.xk}});
  const Product product[] = {
      {context.weights.layers[layer].ffn_key, b.xk, b.h, Epilogue::SquaredRelu}};
  multiply(context, product);
}

void ffn_value(const StageContext& context, std::uint32_t layer) {
  const Activations& b = context.buffers;
  const Product product[] = {
      {context.weights.layers[layer].ffn_value, b.h, {b.x, {}}, Epilogue::Add}};
  multiply(context, product, [&](ItemRange rows) {
    for (std::size_t i = 0; i < context.sequences.size(); ++i) {
      keep_shift(context, i, context.sequences[i].state->ffn_shift(layer), rows);
    }
  });
}

void head(const StageContext& context, std::span<const std::uint32_t> wanted, float* logits) {
  if (wanted.empty()) return;
  const Weights& weights = *context.weights.source;
  const std::size_t width = weights.config.width;
  const Input& out = context.buffers.xr;
  context.worker.share(wanted.size(), [&](std::size_t i) {
    context.kernels.normalize(context.buffers.x + wanted[i] * width, weights.ln_out.weight.data(),
                              weights.ln_out.bias.data(), weights.config.norm_epsilon, width,
                              out.values + i * width);
    quantize(context, out, i, {0, width});
  });
  const StageContext rows = {context.weights,   context.kernels, context.buffers,
                             context.sequences, context.worker,  wanted.size()};
  const Product product[] = {{context.weights.head, out, {logits, {}}}};
  multiply(rows, product);
}

}  // namespace gander
