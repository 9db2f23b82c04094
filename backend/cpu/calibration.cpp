#include "backend/cpu/calibration.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/cpu/stages.h"
#include "model/weight_names.h"

namespace gander {

namespace {

constexpr std::size_t kChunk = 64;

/// Sums of squares by column, in the order of the tokens.
class Squares {
 public:
  explicit Squares(std::size_t columns) : sums_(columns) {}

  void add(const float* rows, std::size_t tokens) {
    for (std::size_t t = 0; t < tokens; ++t) {
      const float* row = rows + t * sums_.size();
      for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += double{row[i]} * row[i];
    }
  }
  std::vector<float> means(std::size_t tokens) const {
    std::vector<float> result;
    for (const double sum : sums_) {
      result.push_back(static_cast<float>(sum / static_cast<double>(tokens)));
    }
    return result;
  }

 private:
  std::vector<double> sums_;
};

/// The input of some matrices: where it lies after a stage, and who reads it.
struct Reader {
  const float* rows;
  Squares squares;
  std::vector<std::string_view> matrices;
};

/// What every matrix of a layer but the second low-rank ones reads stays in the buffers until the
/// next layer, except that channel mixing overwrites xk.
struct LayerReaders {
  LayerReaders(const Activations& b, const Config& c)
      : time_mix{{b.xr.values, Squares(c.width), {"att.receptance.weight"}},
                 {b.xw.values, Squares(c.width), {"att.w1"}},
                 {b.xk.values, Squares(c.width), {"att.key.weight"}},
                 {b.xv.values, Squares(c.width), {"att.value.weight", "att.v1"}},
                 {b.xa.values, Squares(c.width), {"att.a1"}},
                 {b.xg.values, Squares(c.width), {"att.g1"}},
                 {b.low_w.values, Squares(c.rank_w), {"att.w2"}},
                 {b.low_a.values, Squares(c.rank_a), {"att.a2"}},
                 {b.low_v.values, Squares(c.rank_v), {"att.v2"}},
                 {b.low_g.values, Squares(c.rank_g), {"att.g2"}},
                 {b.y.values, Squares(c.width), {"att.output.weight"}}},
        channel_mix{{b.xk.values, Squares(c.width), {"ffn.key.weight"}},
                    {b.h.values, Squares(c.ffn_width), {"ffn.value.weight"}}} {}

  std::vector<Reader> time_mix, channel_mix;
};

/// The model cut down to one layer, without embedding and head, so that preparing it prepares no
/// more. Layer 0 makes v_first, every other reads it: those stand at index 1.
std::shared_ptr<const Weights> only_layer(const Weights& weights, std::uint32_t layer) {
  auto one = std::make_shared<Weights>();
  one->config = weights.config;
  one->config.layers = 2;
  one->layers.resize(2);
  one->layers[layer == 0 ? 0 : 1] = weights.layers[layer];
  one->storage = weights.storage;
  return one;
}

class Calibration {
 public:
  Calibration(std::shared_ptr<const Weights> weights, std::span<const TokenId> tokens,
              const CalibrationOptions& options)
      : weights_(std::move(weights)),
        tokens_(tokens),
        options_(options),
        config_(weights_->config),
        pool_(options.threads),
        buffers_(config_, kChunk, options.threads),
        x_(tokens.size() * config_.width),
        v_first_(x_.size()) {}

  std::optional<Importance> run() {
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
      if (!run_layer(layer)) return std::nullopt;
    }
    measure_head();
    return std::move(importance_);
  }

 private:
  struct Chunk {
    Calibration* self;
    const CpuWeights* weights;
    SequenceRows sequence;
    LayerReaders* readers;
    std::uint32_t layer;
    std::size_t first, count;
  };

  bool run_layer(std::uint32_t layer);
  void run_chunk(const Chunk& chunk, Worker& worker);
  void measure_head();
  void keep(std::string name, const Squares& squares) {
    importance_.emplace(std::move(name), squares.means(tokens_.size()));
  }

  std::shared_ptr<const Weights> weights_;
  std::span<const TokenId> tokens_;
  const CalibrationOptions& options_;
  const Config& config_;
  ThreadPool pool_;
  Activations buffers_;
  std::vector<float> x_, v_first_;  // [tokens][C], between the layers
  Importance importance_;
};

bool Calibration::run_layer(std::uint32_t layer) {
  const CpuWeights prepared = prepare_weights(only_layer(*weights_, layer), pool_);
  State state(prepared.source->config);
  LayerReaders readers(buffers_, config_);
  for (std::size_t first = 0; first < tokens_.size(); first += kChunk) {
    const std::size_t count = std::min(kChunk, tokens_.size() - first);
    const Chunk chunk = {this, &prepared, {&state, 0, count}, &readers, layer, first, count};
    pool_.run([chunk](Worker& worker) { chunk.self->run_chunk(chunk, worker); });
    pool_.settle();  // before what the chunk names goes away
    const double done = layer + static_cast<double>(first) / static_cast<double>(tokens_.size());
    if (options_.progress && !options_.progress(done / config_.layers)) return false;
  }
  for (const std::vector<Reader>* part : {&readers.time_mix, &readers.channel_mix}) {
    for (const Reader& reader : *part) {
      for (const std::string_view matrix : reader.matrices) {
        keep(layer_tensor_name(Naming::Gguf, layer, matrix), reader.squares);
      }
    }
  }
  return true;
}

void Calibration::run_chunk(const Chunk& chunk, Worker& worker) {
  const std::uint32_t index = chunk.layer == 0 ? 0 : 1;  // in only_layer()
  const std::size_t begin = chunk.first * config_.width;
  const std::size_t values = chunk.count * config_.width;
  const std::span sequence(&chunk.sequence, 1);
  const StageContext context = {*chunk.weights, best_kernels(), buffers_,
                                sequence,       worker,         chunk.count};
  const auto measure = [&](std::vector<Reader>& readers) {
    worker.share(readers.size(),
                 [&](std::size_t i) { readers[i].squares.add(readers[i].rows, chunk.count); });
  };
  if (chunk.layer == 0) {
    // The embedding is the whole model's, the layer's stages see their own part.
    const CpuWeights whole = {weights_, {}, {}, nullptr, false};
    embed({whole, best_kernels(), buffers_, sequence, worker, chunk.count},
          tokens_.subspan(chunk.first, chunk.count));
  } else {
    worker.share(1, [&](std::size_t) {
      std::copy_n(x_.data() + begin, values, buffers_.x);
      std::copy_n(v_first_.data() + begin, values, buffers_.v_first);
    });
  }
  time_mix_in(context, index);
  wkv(context, index);
  measure(chunk.readers->time_mix);
  time_mix_out(context, index);
  ffn_key(context, index);
  measure(chunk.readers->channel_mix);
  ffn_value(context, index);
  worker.share(1, [&](std::size_t) {
    std::copy_n(buffers_.x, values, x_.data() + begin);
    if (chunk.layer == 0) std::copy_n(buffers_.v_first, values, v_first_.data() + begin);
  });
}

void Calibration::measure_head() {
  Squares squares(config_.width);
  std::vector<float> row(config_.width);
  for (std::size_t t = 0; t < tokens_.size(); ++t) {
    best_kernels().normalize(x_.data() + t * config_.width, weights_->ln_out.weight.data(),
                             weights_->ln_out.bias.data(), config_.norm_epsilon, config_.width,
                             row.data());
    squares.add(row.data(), 1);
  }
  keep(model_tensor_name(Naming::Gguf, "head.weight"), squares);
}

}  // namespace

std::optional<Importance> measure_importance(std::shared_ptr<const Weights> weights,
                                             std::span<const TokenId> tokens,
                                             const CalibrationOptions& options) {
  return Calibration(std::move(weights), tokens, options).run();
}

}  // namespace gander
