#include "backend/gpu/batch/batch_dispatcher.h"

#include <algorithm>
#include <array>

#include "kernels/function_constants.h"

namespace gander::gpu {
namespace {

constexpr std::uint32_t kRowThreads = 256;
constexpr std::uint32_t kHeadThreads = 128;  // four heads, a SIMD group each

// For a row: a thread has as few quads of channels as up to 512 threads allow, but four at the
// most.
std::uint32_t quad_threads(std::uint32_t width) {
  const std::uint32_t quads = groups_of(width, 4);
  const std::uint32_t each = std::min<std::uint32_t>(groups_of(quads, 512), GANDER_MIX_QUADS);
  return groups_of(groups_of(quads, each), 32) * 32;
}

std::uint32_t row_types(const ModelWeights& weights) {
  std::uint32_t types = type_bits({&weights.head});
  for (const LayerWeights& l : weights.layers) {
    types |= type_bits({&l.receptance, &l.key, &l.value, &l.output, &l.w1, &l.w2, &l.a1, &l.a2,
                        &l.v1, &l.v2, &l.g1, &l.g2, &l.ffn_key});
  }
  return types;
}

}  // namespace

BatchDispatcher::BatchDispatcher(const Recorder& recorder, const BatchMemory& memory,
                                 const BatchTables& tables, const BatchShape& shape)
    : recorder_(recorder),
      memory_(memory),
      tables_(tables),
      shape_(shape),
      row_types_(row_types(*memory.weights)) {}

Launch BatchDispatcher::per_row(std::uint32_t rows, std::uint32_t scratch_floats) const {
  return {.groups = {rows, 1},
          .threads = kRowThreads,
          .group_memory = scratch_floats * static_cast<std::uint32_t>(sizeof(float))};
}

void BatchDispatcher::embed(Program& program) {
  turn_ = 0;
  const MatrixView& emb = memory_.weights->emb;
  Binding table = in(emb.view);
  table.reads = emb.view.size / emb.rows * shape_.rows;
  recorder_.record(
      program, "batch_embed", config().layers, type_bits({&emb}),
      {in(tables_.rows), in(tables_.counts), table, in(memory_.weights->ln0), out(x())},
      EmbedParameters{type_number(emb)},
      per_row(shape_.rows, GANDER_EMBED_SCRATCH(config().width)));
}

void BatchDispatcher::mix(Program& program, std::uint32_t layer, const Before& before,
                          const Shift& shift) {
  const StateBuffers& state = memory_.state;
  const bool keeps = before.kept != nullptr && !shape_.singles;
  const BatchMixParameters parameters = {before.slices,  vector_floats(),         shift.mixes,
                                         input_halves(), buffers().input_stride,  keeps ? 1U : 0U,
                                         slot_floats(),  shape_.singles ? 1U : 0U};
  const View& from = x();
  if (before.slices > 0) turn_ = 1 - turn_;
  const View& kept = keeps ? *before.kept : buffers().y;
  const View& kept_shift = keeps ? *before.shift : shift.state;
  recorder_.record(program, "batch_mix", layer, 0,
                   {in(tables_.rows), in(tables_.counts), in(from), in(buffers().slices), out(x()),
                    in(shift.norm), in(shift.mix), in(state.in_all_slots(shift.state)),
                    out(buffers().inputs), shape_.singles ? Binding{shift.last} : out(shift.last),
                    keeps ? in(kept) : Binding{kept}, out(state.in_all_slots(kept_shift))},
                   parameters,
                   {.groups = {shape_.rows, 1},
                    .threads = quad_threads(config().width),
                    .group_memory = 2 * GANDER_SUMS * sizeof(float)});
}

void BatchDispatcher::multiply(Program& program, std::uint32_t layer,
                               std::span<const Factor> factors, std::uint32_t count,
                               const View& inputs, const View& floats, const View& halves) const {
  std::uint32_t blocks = 0;
  for (const Factor& factor : factors) {
    blocks += groups_of(factor.matrix->rows, GANDER_BATCH_BLOCK_ROWS);
  }
  const ProductTile tile =
      tile_for({rows_of(count), blocks}, memory_.tensor, recorder_.device().info());
  BatchMultiplyParameters parameters = {};
  parameters.count = count;
  parameters.scale = 1.0F;
  std::vector<Binding> bindings = {in(inputs)};
  std::uint32_t tiles = 0, types = 0;
  for (const Factor& factor : factors) {
    const MatrixView& matrix = *factor.matrix;
    if (matrix.rows == 0) continue;
    const std::uint32_t row_tiles = groups_of(matrix.rows, tile.rows);
    parameters.matrix[parameters.matrices++] = {.first_tile = tiles,
                                                .row_tiles = row_tiles,
                                                .slices = 1,
                                                .type = type_number(matrix),
                                                .rows = matrix.rows,
                                                .columns = matrix.columns,
                                                .input = factor.input,
                                                .input_stride = factor.input_stride,
                                                .output = factor.output,
                                                .output_stride = factor.output_stride,
                                                .slice_stride = 0,
                                                .activation = factor.activation};
    bindings.push_back(in(matrix.view));
    types |= type_bit(matrix.type);
    tiles += row_tiles;
  }
  const View first = bindings[1].view;
  while (bindings.size() < 1 + GANDER_BATCH_MATRICES) bindings.push_back({first});
  bindings.push_back(in(tables_.counts));
  bindings.push_back(out(floats));
  bindings.push_back(out(halves));
  recorder_.record(program, tile.kernel, layer, types_of(tile, types), std::move(bindings),
                   parameters,
                   {.groups = {groups_of(rows_of(count), tile.tokens), tiles},
                    .threads = tile.threads,
                    .group_memory = tile.group_memory,
                    .constants = {{.index = GANDER_KERNEL_THREADS, .bits = tile.threads}}});
}

// C rows times the inputs: the output matrix by rows, the value matrix by unit.
void BatchDispatcher::multiply_residual(Program& program, std::uint32_t layer,
                                        const MatrixView& matrix, const View& inputs,
                                        std::uint32_t input_stride, float scale) const {
  const std::uint32_t slices = slices_of(matrix.columns);
  const std::uint32_t blocks =
      groups_of(matrix.rows, GANDER_BATCH_BLOCK_ROWS) * std::max(slices, 1U);
  const bool by_unit = &matrix == &memory_.weights->layers[layer].ffn_value;
  const ProductTile tile =
      tile_for({shape_.rows, blocks, by_unit}, memory_.tensor, recorder_.device().info());
  BatchMultiplyParameters parameters = {};
  parameters.count = GANDER_COUNT_ROWS;
  parameters.matrices = 1;
  parameters.scale = scale;
  const std::uint32_t row_tiles = groups_of(matrix.rows, tile.rows);
  const std::uint32_t tiles = row_tiles * std::max(slices, 1U);
  parameters.matrix[0] = {
      .first_tile = 0,
      .row_tiles = row_tiles,
      .slices = std::max(slices, 1U),
      .type = type_number(matrix),
      .rows = matrix.rows,
      .columns = matrix.columns,
      .input = 0,
      .input_stride = input_stride,
      .output = 0,
      .output_stride = config().width,
      .slice_stride = vector_floats(),
      .activation = static_cast<uint>(slices > 0 ? GANDER_BATCH_FLOATS : GANDER_BATCH_ADD)};
  std::vector<Binding> bindings = {in(inputs), in(matrix.view)};
  if (!by_unit) {
    while (bindings.size() < 1 + GANDER_BATCH_MATRICES) bindings.push_back({matrix.view});
  }
  bindings.push_back(in(tables_.counts));
  bindings.push_back(slices > 0 ? out(buffers().slices) : in_out(x()));
  if (!by_unit) bindings.push_back({buffers().hidden});
  const std::uint32_t own = type_bits({&matrix});
  recorder_.record(program, tile.kernel, layer, by_unit ? own : types_of(tile, own),
                   std::move(bindings), parameters,
                   {.groups = {groups_of(shape_.rows, tile.tokens), tiles},
                    .threads = tile.threads,
                    .group_memory = tile.group_memory,
                    .constants = {{.index = GANDER_KERNEL_THREADS, .bits = tile.threads}}});
}

void BatchDispatcher::time_mix(Program& program, std::uint32_t layer) {
  const LayerWeights& weights = memory_.weights->layers[layer];
  const StateBuffers& state = memory_.state;
  const BatchBuffers& b = buffers();
  Before before;
  if (layer > 0) {
    before = {slices_of(config().ffn_width), &b.ffn_last, &state.ffn_shift[layer - 1]};
  }
  mix(program, layer, before, {weights.ln1, weights.mix, 6, state.att_shift[layer], b.att_last});

  const std::uint32_t halves = input_halves(), floats = vector_floats();
  const std::uint32_t width = config().width, stride = b.input_stride;
  const auto rank = [&](const MatrixView& matrix, std::uint32_t mix, std::size_t kind,
                        std::uint32_t activation) {
    return Factor{&matrix,   mix * halves, stride, b.rank_begin[kind], b.rank_stride[kind],
                  activation};
  };
  multiply(program, layer,
           std::array{Factor{&weights.receptance, 0, stride, 0, width},
                      Factor{&weights.key, 2 * halves, stride, floats, width},
                      Factor{&weights.value, 3 * halves, stride, 2 * floats, width},
                      rank(weights.w1, 1, 0, GANDER_BATCH_TANH),
                      rank(weights.a1, 4, 1, GANDER_BATCH_HALVES),
                      rank(weights.v1, 3, 2, GANDER_BATCH_HALVES),
                      rank(weights.g1, 5, 3, GANDER_BATCH_SIGMOID)},
           GANDER_COUNT_ROWS, b.inputs, b.projected, b.low_rank);
  const auto up = [&](const MatrixView& matrix, std::uint32_t kind) {
    return Factor{&matrix, b.rank_begin[kind], b.rank_stride[kind], kind * floats, width};
  };
  multiply(program, layer,
           std::array{up(weights.w2, 0), up(weights.a2, 1), up(weights.v2, 2), up(weights.g2, 3)},
           GANDER_COUNT_ROWS, b.low_rank, b.products, b.hidden);
  recurrence(program, layer);
  multiply_residual(program, layer, weights.output, b.inputs, stride, 1.0F);
}

void BatchDispatcher::recurrence(Program& program, std::uint32_t layer) const {
  const BatchBuffers& b = buffers();
  const View& vectors = memory_.weights->layers[layer].vectors;
  const bool first = layer == 0;
  const ScanShape scan = scan_for(config(), shape_, memory_.state.half, recorder_.device().info());
  recorder_.record(
      program, scan.kernel, layer, 0,
      {in(tables_.sequences), in(tables_.counts), in(b.projected), in(b.products), in(vectors),
       in_out(memory_.state.in_all_slots(memory_.state.matrix[layer])),
       first ? out(b.v_first) : Binding{b.v_first, b.v_first.size, 0}, out(b.values),
       out(b.bonuses), out(b.y)},
      BatchScanParameters{first ? 0U : 1U, vector_floats(), slot_floats(), scan.parts,
                          scan.sequences},
      {.groups = {config().heads * scan.parts, groups_of(shape_.sequences, scan.sequences)},
       .threads = scan.threads,
       .group_memory = GANDER_SCAN_SCRATCH * sizeof(float),
       .constants = {{.index = GANDER_KERNEL_THREADS, .bits = scan.threads},
                     {.index = GANDER_KERNEL_GROUPS, .bits = scan.groups}}});
  const std::uint64_t vectors_bytes = std::uint64_t{vector_floats()} * sizeof(float);
  recorder_.record(
      program, "batch_gate", layer, 0,
      {in(tables_.counts), in(b.y), in(first ? b.v_first : b.values), in(b.bonuses),
       in(b.products.part(3 * vectors_bytes, vectors_bytes)), in(vectors), out(b.inputs)},
      BatchGateParameters{b.input_stride},
      {.groups = {groups_of(config().heads, kHeadThreads / 32), shape_.rows},
       .threads = kHeadThreads});
}

void BatchDispatcher::channel_mix(Program& program, std::uint32_t layer) {
  const LayerWeights& weights = memory_.weights->layers[layer];
  const StateBuffers& state = memory_.state;
  const BatchBuffers& b = buffers();
  mix(program, layer, {slices_of(config().width), &b.att_last, &state.att_shift[layer]},
      {weights.ln2, weights.ffn_mix, 1, state.ffn_shift[layer], b.ffn_last});
  multiply(program, layer,
           std::array{Factor{&weights.ffn_key, 0, b.input_stride, 0, b.hidden_stride,
                             GANDER_BATCH_SQUARED_RELU}},
           GANDER_COUNT_ROWS, b.inputs, b.y, b.hidden);
  multiply_residual(program, layer, weights.ffn_value, b.hidden, b.hidden_stride,
                    1.0F / GANDER_HIDDEN_SCALE);
}

void BatchDispatcher::head(Program& program) const {
  const BatchBuffers& b = buffers();
  const std::uint32_t layers = config().layers;
  if (!shape_.singles) {
    recorder_.record(program, "batch_keep", layers, 0,
                     {in(tables_.sequences), in(tables_.counts), in(b.ffn_last),
                      out(memory_.state.in_all_slots(memory_.state.ffn_shift[layers - 1]))},
                     BatchKeepParameters{slot_floats()}, per_row(shape_.sequences, 0));
  }
  if (shape_.logits == 0) return;
  recorder_.record(
      program, "batch_head_rows", layers, 0,
      {in(tables_.wanted), in(tables_.counts), in(x()), in(b.slices), in(memory_.weights->ln_out),
       out(b.inputs)},
      BatchHeadRowsParameters{slices_of(config().ffn_width), vector_floats(), b.input_stride},
      {.groups = {shape_.logits, 1},
       .threads = quad_threads(config().width),
       .group_memory = 2 * GANDER_SUMS * sizeof(float)});
  multiply(program, layers,
           std::array{Factor{&memory_.weights->head, 0, b.input_stride, 0, config().vocab_size}},
           GANDER_COUNT_LOGITS, b.inputs, b.logits, b.hidden);
  if (shape_.best) {
    recorder_.record(program, "batch_best", layers, 0,
                     {in(b.logits), in(tables_.counts), out(b.best)},
                     {.groups = {shape_.logits, 1},
                      .threads = 1024,
                      .group_memory = 2 * GANDER_SUMS * sizeof(float)});
  }
  if (shape_.samples) {
    const SamplerBuffers& samplers = b.samplers;
    // Of the samplers little is touched.
    recorder_.record(program, "batch_sample", layers, 0,
                     {in_out(b.logits), in(tables_.counts), in(tables_.sampled),
                      Binding{samplers.settings}, Binding{samplers.biases}, Binding{samplers.state},
                      Binding{samplers.counts}, Binding{samplers.seen}, out(b.best)},
                     Launch{.groups = {shape_.logits, 1}, .threads = 1024});
  }
}

Program BatchDispatcher::record() {
  Program program;
  embed(program);
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    time_mix(program, layer);
    channel_mix(program, layer);
  }
  head(program);
  return program;
}

}  // namespace gander::gpu
