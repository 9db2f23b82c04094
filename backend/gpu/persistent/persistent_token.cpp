#include "backend/gpu/persistent/persistent_token.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/gpu/persistent/row_tiles.h"
#include "backend/gpu/recorder.h"
#include "kernels/function_constants.h"

namespace gander::gpu {
namespace {

bool fits_rows(const Matrix& matrix) {
  return matrix.rows == 0 || matrix.columns % kTileColumns == 0;
}

bool fits_rank(const Matrix& matrix) {
  return matrix.columns % 8 == 0;
}

MatrixView view_of(const Placed& placed, const View& buffer) {
  const Matrix& matrix = placed.matrix;
  return {buffer.part(placed.offset, placed.bytes), placed.type(), matrix.rows, matrix.columns};
}

ModelWeights views_of(const TokenWeights& placed, const View& buffer) {
  const auto vectors = [&](const Placed& part) { return buffer.part(part.offset, part.bytes); };
  const auto matrix = [&](const Placed& part) { return view_of(part, buffer); };
  ModelWeights weights;
  weights.emb = matrix(placed.emb);
  weights.ln0 = vectors(placed.ln0);
  for (const PlacedLayer& l : placed.layers) {
    weights.layers.push_back({vectors(l.ln1), vectors(l.mix), vectors(l.vectors), vectors(l.ln2),
                              vectors(l.ffn_mix), matrix(l.receptance), matrix(l.key),
                              matrix(l.value), matrix(l.output), matrix(l.w1), matrix(l.w2),
                              matrix(l.a1), matrix(l.a2), matrix(l.v1), matrix(l.v2), matrix(l.g1),
                              matrix(l.g2), matrix(l.ffn_key), matrix(l.ffn_value)});
  }
  weights.ln_out = vectors(placed.ln_out);
  weights.head = matrix(placed.head);
  return weights;
}

template <typename Element>
std::uint64_t bytes_of(const std::vector<Element>& elements) {
  return elements.size() * sizeof(Element);
}

template <typename Element>
void write_all(Device& device, const View& view, const std::vector<Element>& elements) {
  device.write(view, std::as_bytes(std::span(elements)));
}

// Bytes a token reads of the weights when it reads each once, and one row of the embedding.
std::uint64_t bytes_once(const TokenWeights& placed, bool logits) {
  return placed.bytes - placed.emb.bytes - (logits ? 0 : placed.head.bytes);
}

}  // namespace

bool PersistentToken::supports(const Weights& weights, const DeviceInfo& info) {
  const Config& config = weights.config;
  if (info.resident_groups < GANDER_TOKEN_MIN_BLOCKS ||
      info.resident_groups > GANDER_TOKEN_THREADS || config.ranks() > 2 * GANDER_TOKEN_THREADS ||
      config.head_size != 64 || config.width % 256 != 0 || config.width > GANDER_TOKEN_MAX_WIDTH ||
      config.ffn_width % 256 != 0 || config.width / GANDER_VALUE_TILE > info.resident_groups) {
    return false;
  }
  for (const gander::LayerWeights& layer : weights.layers) {
    const TimeMixWeights& att = layer.att;
    for (const Matrix* matrix : {&att.w1, &att.a1, &att.v1, &att.g1}) {
      if (!fits_rows(*matrix)) return false;
    }
    for (const Matrix* matrix : {&att.w2, &att.a2, &att.v2, &att.g2}) {
      if (!fits_rank(*matrix)) return false;
    }
  }
  constexpr std::uint32_t kLeastGroupMemory = 96 << 10;
  return info.max_group_memory >= kLeastGroupMemory;
}

PersistentToken::PersistentToken(const Weights& weights, std::uint32_t slots, bool half_states,
                                 Device& device)
    : weights_(weights),
      slots_(slots),
      half_states_(half_states),
      device_(device),
      placed_(plan_token_weights(weights)),
      plan_(plan_token(weights.config, placed_, device.info())) {
  const Config& config = weights.config;
  tables_.add(layers_, bytes_of(plan_.layers));
  tables_.add(blocks_, bytes_of(plan_.blocks));
  tables_.add(pieces_, bytes_of(plan_.pieces));
  tables_.add(segments_, bytes_of(plan_.segments));
  const std::uint64_t width = config.width;
  tables_.add(sums_, 2 * width * sizeof(std::int64_t));
  tables_.add(kept_, 2 * width * sizeof(float));
  tables_.add(projected_, 3 * width * sizeof(float));
  tables_.add(low_rank_, config.ranks() * sizeof(float));
  tables_.add(gated_, width * sizeof(float));
  tables_.add(hidden_, config.ffn_width * sizeof(float));
  tables_.add(counters_, (2 + device.info().resident_groups) * sizeof(std::uint32_t));
  tables_.add(trace_, (std::uint64_t{5} * config.layers + 2) * sizeof(std::uint64_t));
}

std::uint64_t PersistentToken::bytes() const {
  return placed_.bytes + tables_.size();
}

void PersistentToken::place() {
  const Config& config = weights_.config;
  memory_.buffers = make_layer_buffers(config, 1, device_.info().resident_groups, device_);
  memory_.state = make_state_buffers(config, slots_, half_states_, device_);
  tables_.allocate(device_, "token kernel");
  buffer_ = {device_.allocate(placed_.bytes, "weights"), 0, placed_.bytes};
  memory_.weights = views_of(placed_, buffer_);
}

void PersistentToken::upload(const Progress& progress) {
  write_all(device_, layers_, plan_.layers);
  write_all(device_, blocks_, plan_.blocks);
  write_all(device_, pieces_, plan_.pieces);
  write_all(device_, segments_, plan_.segments);
  upload_token_weights(placed_, buffer_, device_, progress);
}

Program PersistentToken::record(const View& token, bool logits, bool traced) const {
  const Config& config = weights_.config;
  const Recorder recorder(device_, config);
  Program program;
  LayerDispatcher(recorder, memory_, LaunchShapes{}).embed(program, token);

  TokenParameters parameters = plan_.parameters;
  parameters.has_head = logits ? 1 : 0;
  parameters.traced = traced ? 1 : 0;
  std::vector<FunctionConstant> constants = model_constants(config, plan_.weight_types);
  constants.push_back({.index = GANDER_RING_SLOTS, .bits = plan_.ring_slots});
  constants.push_back({.index = GANDER_KERNEL_THREADS, .bits = GANDER_TOKEN_THREADS});
  Dispatch dispatch;
  dispatch.kernel = "token";
  dispatch.layer = config.layers;
  dispatch.pipeline = device_.pipeline(dispatch.kernel, constants).id;
  dispatch.bindings = {{buffer_, bytes_once(placed_, logits), 0},
                       in(layers_),
                       in(blocks_),
                       in(segments_),
                       in(pieces_),
                       in_out(memory_.state.all),
                       in(memory_.buffers.x),
                       in_out(sums_),
                       in_out(kept_),
                       in_out(projected_),
                       in_out(low_rank_),
                       in_out(memory_.buffers.v_first),
                       in_out(gated_),
                       in_out(hidden_),
                       in_out(counters_),
                       logits ? out(memory_.buffers.logits) : Binding{memory_.buffers.logits},
                       logits ? out(memory_.buffers.maxima) : Binding{memory_.buffers.maxima},
                       traced ? out(trace_) : Binding{trace_}};
  dispatch.parameters.resize(sizeof parameters);
  std::memcpy(dispatch.parameters.data(), &parameters, sizeof parameters);
  dispatch.groups = {device_.info().resident_groups, 1};
  dispatch.threads = GANDER_TOKEN_THREADS;
  dispatch.group_memory = plan_.group_memory;
  dispatch.resident = true;
  program.dispatches.push_back(std::move(dispatch));
  return program;
}

std::vector<std::uint64_t> PersistentToken::read_trace() const {
  std::vector<std::uint64_t> times(trace_.size / sizeof(std::uint64_t));
  device_.read(trace_, std::as_writable_bytes(std::span(times)));
  std::vector<std::uint64_t> stages;
  for (std::size_t i = 1; i < times.size(); ++i) stages.push_back(times[i] - times[i - 1]);
  return stages;
}

std::vector<float> PersistentToken::read_hidden() const {
  std::vector<std::uint32_t> words(hidden_.size / sizeof(std::uint32_t));
  device_.read(hidden_, std::as_writable_bytes(std::span(words)));
  std::vector<float> values(words.size());
  // The last bit is that of the round: kernels/persistent/exchange.h.
  std::ranges::transform(words, values.begin(),
                         [](std::uint32_t word) { return std::bit_cast<float>(word & ~1U); });
  return values;
}

}  // namespace gander::gpu
