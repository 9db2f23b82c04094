#include "tests/support/sparse_model.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace gander {

namespace {

constexpr std::uint64_t kHeader = 2 << 20;  // metadata with a vocabulary
constexpr std::uint64_t kTensorAlignment = 32;

// Places matrices one after the other; their addresses are offsets until the file is mapped.
struct Layout {
  std::uint64_t size = kHeader;
  std::vector<std::pair<Matrix*, std::uint64_t>> matrices;

  void add(Matrix& matrix, DataType type, std::uint32_t rows, std::uint32_t columns) {
    if (columns % info(type).block_size != 0) type = DataType::F16;
    matrix = {type, rows, columns, nullptr};
    matrices.emplace_back(&matrix, size);
    size = (size + matrix.size() + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  }
};

std::vector<float> ones(std::size_t count) {
  return std::vector<float>(count, 1.0F);
}

LayerNormWeights norm(std::size_t count) {
  return {ones(count), ones(count)};
}

void add_layer(Layout& layout, LayerWeights& layer, const Config& config, bool has_value_mix,
               DataType large, DataType low_rank) {
  const std::uint32_t width = config.width;
  TimeMixWeights& att = layer.att;
  for (std::vector<float>* vector : {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g,
                                     &att.w0, &att.a0, &att.k_k, &att.k_a, &att.r_k}) {
    *vector = ones(width);
  }
  layer.ln1 = layer.ln2 = att.ln_x = norm(width);
  layer.ffn.x_k = ones(width);
  const auto pair = [&](Matrix& first, Matrix& second, std::uint32_t rank) {
    layout.add(first, low_rank, rank, width);
    layout.add(second, low_rank, width, rank);
  };
  layout.size += 12 * std::uint64_t{4} * width;  // the vectors, which the file has here
  pair(att.w1, att.w2, config.rank_w);
  pair(att.a1, att.a2, config.rank_a);
  if (has_value_mix) {
    att.v0 = ones(width);
    pair(att.v1, att.v2, config.rank_v);
  }
  pair(att.g1, att.g2, config.rank_g);
  layout.add(att.receptance, large, width, width);
  layout.add(att.key, large, width, width);
  layout.add(att.value, large, width, width);
  layout.add(att.output, large, width, width);
  layout.add(layer.ffn.key, large, config.ffn_width, width);
  layout.add(layer.ffn.value, large, width, config.ffn_width);
}

Config shape(std::uint32_t layers, std::uint32_t width, std::uint32_t rank_w, std::uint32_t rank_v,
             std::uint32_t rank_g) {
  Config config;
  config.vocab_size = 65536;
  config.width = width;
  config.layers = layers;
  config.head_size = 64;
  config.heads = width / 64;
  config.ffn_width = 4 * width;
  config.rank_w = config.rank_a = rank_w;
  config.rank_v = rank_v;
  config.rank_g = rank_g;
  return config;
}

}  // namespace

Config released_config(std::string_view size) {
  if (size == "0.1b") return shape(12, 768, 64, 32, 128);
  if (size == "0.4b") return shape(24, 1024, 64, 32, 128);
  if (size == "1.5b") return shape(24, 2048, 96, 64, 256);
  if (size == "2.9b") return shape(32, 2560, 96, 64, 320);
  if (size == "7.2b") return shape(32, 4096, 128, 96, 480);
  if (size == "13.3b") return shape(61, 4096, 192, 128, 384);
  fail("there is no released model of size {}", size);
}

Weights make_sparse_weights(const Config& config, DataType large, DataType low_rank,
                            const std::string& path) {
  Weights weights;
  weights.config = config;
  weights.naming = "GGUF";
  weights.ln0 = weights.ln_out = norm(config.width);
  weights.layers.resize(config.layers);
  Layout layout;
  layout.add(weights.emb, large, config.vocab_size, config.width);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    add_layer(layout, weights.layers[i], config, i > 0, large, low_rank);
  }
  layout.add(weights.head, large, config.vocab_size, config.width);

  std::ofstream(path).put(0);
  std::filesystem::resize_file(path, layout.size);
  auto file = std::make_shared<MappedFile>(path);
  for (const auto& [matrix, offset] : layout.matrices) matrix->data = file->bytes().data() + offset;
  weights.storage.push_back(std::move(file));
  return weights;
}

}  // namespace gander
