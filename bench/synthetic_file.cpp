#include "bench/synthetic_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numbers>
#include <vector>

#include "base/error.h"
#include "base/memory.h"
#include "bench/random_weights.h"
#include "model/gguf_export.h"
#include "model/quant/blocks.h"
#include "model/weight_names.h"

namespace gander {

namespace {

constexpr Config shape(std::uint32_t layers, std::uint32_t width, std::uint32_t rank_wa,
                       std::uint32_t rank_v, std::uint32_t rank_g,
                       std::uint32_t vocab_size = 65536) {
  Config config;
  config.vocab_size = vocab_size;
  config.width = width;
  config.layers = layers;
  config.head_size = 64;
  config.heads = width / config.head_size;
  config.ffn_width = 4 * width;
  config.rank_w = rank_wa;
  config.rank_a = rank_wa;
  config.rank_v = rank_v;
  config.rank_g = rank_g;
  return config;
}

constexpr std::array<NamedShape, 6> kShapes = {{{"tiny", shape(12, 256, 32, 32, 32, 512)},
                                                {"0.1b", shape(12, 768, 64, 32, 128)},
                                                {"0.4b", shape(24, 1024, 64, 32, 128)},
                                                {"1.5b", shape(24, 2048, 96, 64, 256)},
                                                {"2.9b", shape(32, 2560, 96, 64, 320)},
                                                {"7.2b", shape(32, 4096, 128, 96, 480)}}};

// Channels of the input of channel mixing that are constant, and their value: far enough from the
// others' that the weight they need is smaller than the others'.
constexpr std::size_t kConstantChannels = 32;
constexpr float kConstant = 4;
// The largest block: as many weights of each key row are encoded rather than drawn.
constexpr std::size_t kEncoded = 256;
// Token shift of channel mixing mixes in this much of the token before at most.
constexpr float kLargestLerp = 0.2F;
constexpr std::size_t kPiece = std::size_t{4} << 20;

double below(double z) {
  return std::erfc(-z / std::sqrt(2.0)) / 2;
}

// The z below which a normal variable is with that probability.
double normal_quantile(double probability) {
  double low = -8;
  double high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (below(middle) < probability ? low : high) = middle;
  }
  return low;
}

// Root mean square of relu(z - shift)², z normal.
double hidden_size(double shift) {
  constexpr double kStep = 1e-3;
  double sum = 0;
  for (int i = 0; i < 12000; ++i) {
    const double h = i * kStep;
    const double z = shift + h;
    sum += std::pow(h, 4) * std::exp(-z * z / 2) * kStep;
  }
  return std::sqrt(sum / std::sqrt(2 * std::numbers::pi));
}

/// Either the tensors' descriptions or their data: the same list of calls does both.
class Sink {
 public:
  explicit Sink(const SyntheticOptions& options) : options_(options), random_(options.seed) {}

  std::vector<GgufTensor> take_descriptions() { return std::move(tensors_); }
  void write_to(GgufWriter& writer) { writer_ = &writer; }

  void vector(const std::string& name, std::uint64_t count, float low, float high) {
    values(name, {count}, low, high);
  }
  void values(const std::string& name, std::vector<std::uint64_t> shape, float low, float high,
              const std::function<void(std::vector<float>&)>& adjust = nullptr) {
    std::uint64_t count = 1;
    for (const std::uint64_t size : shape) count *= size;
    if (writer_ == nullptr) {
      tensors_.push_back({name, DataType::F32, std::move(shape)});
      return;
    }
    std::vector<float> drawn = random_.between(count, low, high);
    if (adjust) adjust(drawn);
    writer_->write(std::as_bytes(std::span(drawn)));
  }

  /// Mean 0, and a standard deviation of gain / sqrt(columns): y = W x is then `gain` times as
  /// large as x.
  void matrix(const std::string& name, std::uint32_t rows, std::uint32_t columns, double gain) {
    const DataType type = describe(name, rows, columns);
    if (writer_ == nullptr) return;
    const auto deviation = static_cast<float>(gain / std::sqrt(columns));
    stream_rows(type, rows, columns, deviation, [](std::span<std::byte>) {});
  }

  /// The same, but that its first columns add `shift` to each y.
  void shifted_matrix(const std::string& name, std::uint32_t rows, std::uint32_t columns,
                      double gain, double shift) {
    const DataType type = describe(name, rows, columns);
    if (writer_ == nullptr) return;
    const auto deviation = static_cast<float>(gain / std::sqrt(columns));
    const float weight = static_cast<float>(shift) / (kConstant * kConstantChannels);
    const std::size_t encoded = std::min<std::size_t>(kEncoded, columns);
    const auto begin_row = [&](std::span<std::byte> row) {
      const float limit = deviation * std::sqrt(3.0F);
      std::vector<float> weights = random_.between(encoded, -limit, limit);
      std::fill_n(weights.begin(), kConstantChannels, weight);
      quantize(type, weights, row.first(row_bytes(type, encoded)));
    };
    stream_rows(type, rows, columns, deviation, begin_row);
  }

 private:
  DataType describe(const std::string& name, std::uint32_t rows, std::uint32_t columns) {
    const Matrix matrix = {DataType::F32, rows, columns, nullptr};
    const DataType type = store_as(options_.large, options_.low_rank)(name, matrix);
    if (writer_ == nullptr) tensors_.push_back({name, type, {rows, columns}});
    return type;
  }

  template <typename BeginRow>
  void stream_rows(DataType type, std::uint32_t rows, std::uint32_t columns, float deviation,
                   const BeginRow& begin_row) {
    const std::size_t size = row_bytes(type, columns);
    std::vector<std::byte> piece(std::max<std::size_t>(1, kPiece / size) * size);
    for (std::size_t left = rows * size; left > 0;) {
      const std::span<std::byte> bytes(piece.data(), std::min(left, piece.size()));
      random_.fill(type, bytes, deviation);
      for (std::size_t at = 0; at < bytes.size(); at += size) begin_row(bytes.subspan(at, size));
      writer_->write(bytes);
      left -= bytes.size();
    }
  }

  const SyntheticOptions& options_;
  RandomWeights random_;
  GgufWriter* writer_ = nullptr;
  std::vector<GgufTensor> tensors_;
};

void add_time_mix(Sink& sink, const Config& config, std::uint32_t layer) {
  const std::uint32_t width = config.width;
  const auto named = [&](std::string_view part) {
    return layer_tensor_name(Naming::Gguf, layer, part);
  };
  // Layer 0 has no value mix; llama.cpp's conversion writes an idle copy with the rank of `a`.
  const std::uint32_t rank_v = layer == 0 ? config.rank_a : config.rank_v;
  sink.values(named("att.x_fused"), {6, 1, 1, width}, 0, 1);
  sink.vector(named("att.w0"), width, -6, 1);  // decays from 0.9985 to 0.64
  sink.matrix(named("att.w1"), config.rank_w, width, 0.5);
  sink.matrix(named("att.w2"), width, config.rank_w, 0.5);
  sink.vector(named("att.a0"), width, -1, 1);
  sink.matrix(named("att.a1"), config.rank_a, width, 0.5);
  sink.matrix(named("att.a2"), width, config.rank_a, 0.5);
  sink.vector(named("att.v0"), width, -1, 1);
  sink.matrix(named("att.v1"), rank_v, width, 0.5);
  sink.matrix(named("att.v2"), width, rank_v, 0.5);
  sink.matrix(named("att.g1"), config.rank_g, width, 1);
  sink.matrix(named("att.g2"), width, config.rank_g, 2);
  sink.vector(named("att.k_k"), width, 0.5F, 1.2F);
  sink.vector(named("att.k_a"), width, 0.5F, 1);
  sink.vector(named("att.r_k"), width, -0.2F, 0.2F);
  sink.matrix(named("att.receptance.weight"), width, width, 0.7);
  sink.matrix(named("att.key.weight"), width, width, 0.7);
  sink.matrix(named("att.value.weight"), width, width, 0.7);
  sink.matrix(named("att.output.weight"), width, width, 0.5);
  sink.vector(named("att.ln_x.weight"), width, 0.7F, 1.3F);
  sink.vector(named("att.ln_x.bias"), width, -0.1F, 0.1F);
}

void add_layer(Sink& sink, const SyntheticOptions& options, std::uint32_t layer) {
  const Config& config = options.config;
  const std::uint32_t width = config.width;
  const auto named = [&](std::string_view part) {
    return layer_tensor_name(Naming::Gguf, layer, part);
  };
  const auto begin_with = [](float value) {
    return [value](std::vector<float>& v) { std::fill_n(v.begin(), kConstantChannels, value); };
  };
  sink.vector(named("ln1.weight"), width, 0.7F, 1.3F);
  sink.vector(named("ln1.bias"), width, -0.1F, 0.1F);
  sink.values(named("ln2.weight"), {width}, 0.8F, 1.2F, begin_with(0));
  sink.values(named("ln2.bias"), {width}, -0.1F, 0.1F, begin_with(kConstant));
  add_time_mix(sink, config, layer);
  sink.values(named("ffn.x_k"), {1, 1, width}, 0, kLargestLerp, begin_with(0));

  // Before the shift the sums are normal with variance 1 if neighbouring tokens' vectors are alike;
  // the lerp takes a little away if they are not.
  const double z = normal_quantile(options.zeros);
  const double alike = static_cast<double>(width - kConstantChannels) / width;
  const double apart = 1 - kLargestLerp + 2.0 / 3 * kLargestLerp * kLargestLerp;
  const double sum_size = std::sqrt(alike * (1 + apart) / 2);
  sink.shifted_matrix(named("ffn.key.weight"), config.ffn_width, width, 1, -z * sum_size);
  const double size = std::max(hidden_size(z), 1e-3);
  sink.matrix(named("ffn.value.weight"), width, config.ffn_width, 0.5 / size);
}

void add_model(Sink& sink, const SyntheticOptions& options) {
  const Config& config = options.config;
  const auto named = [](std::string_view part) { return model_tensor_name(Naming::Gguf, part); };
  const double embedding_size = std::sqrt(config.width);
  sink.matrix(named("emb.weight"), config.vocab_size, config.width, embedding_size);
  sink.vector(named("ln0.weight"), config.width, 0.7F, 1.3F);
  sink.vector(named("ln0.bias"), config.width, -0.1F, 0.1F);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) add_layer(sink, options, layer);
  sink.vector(named("ln_out.weight"), config.width, 0.7F, 1.3F);
  sink.vector(named("ln_out.bias"), config.width, -0.1F, 0.1F);
  sink.matrix(named("head.weight"), config.vocab_size, config.width, 2);
}

std::uint64_t bytes_of(const std::vector<GgufTensor>& tensors) {
  std::uint64_t bytes = 0;
  for (const GgufTensor& tensor : tensors) {
    std::uint64_t rows = 1;
    for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    bytes += rows * row_bytes(tensor.type, tensor.shape.back());
  }
  return bytes;
}

}  // namespace

std::span<const NamedShape> synthetic_shapes() {
  return kShapes;
}

Tokenizer synthetic_tokenizer(std::uint32_t vocab_size) {
  constexpr std::uint32_t kUnused = 6;  // as many as the World vocabulary leaves
  std::vector<std::string> tokens(1);
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  // All words of two letters, then of three, then of four.
  for (std::uint32_t number = 0; tokens.size() + kUnused < vocab_size; ++number) {
    std::string word;
    std::uint32_t rest = number;
    std::uint32_t words = 26 * 26;
    std::size_t length = 2;
    for (; rest >= words; words *= 26, ++length) rest -= words;
    for (; length > 0; --length, rest /= 26) word += static_cast<char>('a' + rest % 26);
    tokens.push_back(word);
  }
  return Tokenizer(std::move(tokens));
}

std::uint64_t synthetic_file_size(const SyntheticOptions& options) {
  Sink sink(options);
  add_model(sink, options);
  return bytes_of(sink.take_descriptions());
}

void write_synthetic_file(const std::string& path, const SyntheticOptions& options) {
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  const std::uint64_t size = synthetic_file_size(options);
  if (!error && space.available < size + (std::uint64_t{64} << 20)) {
    fail("{} needs {}, but only {} are free there", path, bytes_text(size),
         bytes_text(space.available));
  }
  const Tokenizer tokenizer = synthetic_tokenizer(options.config.vocab_size);
  Sink sink(options);
  add_model(sink, options);
  GgufMetadata metadata = model_metadata(options.config, &tokenizer);
  metadata.emplace_back("general.name", std::string("random weights for benchmarks"));
  GgufWriter writer(path, metadata, sink.take_descriptions());
  sink.write_to(writer);
  add_model(sink, options);
  writer.commit();
}

}  // namespace gander
