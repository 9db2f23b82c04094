#include "model/weights.h"

#include "model/config_reader.h"
#include "model/tensor_lookup.h"

namespace gander {

namespace {

/// The bonus: [H, N], flat in GGUF.
std::vector<float> load_r_k(TensorLookup& tensors, const Config& config, std::uint32_t layer) {
  const std::string name = tensors.layer_name(layer, "att.r_k");
  if (tensors.naming() == Naming::Gguf) return tensors.vector(name, config.width);
  const Tensor& tensor = tensors.require(name);
  const std::vector<std::uint64_t> expected = {config.heads, config.head_size};
  if (tensor.shape != expected) tensors.fail_shape(tensor, shape_text(expected));
  return tensors.floats(tensor);
}

/// The six lerps of time mixing, which GGUF and older Hugging Face files keep in one tensor.
void load_lerps(TensorLookup& tensors, const Config& config, std::uint32_t layer,
                TimeMixWeights& att) {
  const std::string fused = tensors.layer_name(layer, "att.x_fused");
  if (!tensors.has(fused) && tensors.naming() != Naming::Gguf) {
    const auto lerp = [&](std::string_view part) {
      return tensors.vector(tensors.layer_name(layer, part), config.width);
    };
    att.x_r = lerp("att.x_r");
    att.x_w = lerp("att.x_w");
    att.x_k = lerp("att.x_k");
    att.x_v = lerp("att.x_v");
    att.x_a = lerp("att.x_a");
    att.x_g = lerp("att.x_g");
    return;
  }
  const Tensor& tensor = tensors.require(fused);
  const std::size_t width = config.width;
  if (tensor.shape.size() < 2 || tensor.shape.front() != 6 || tensor.shape.back() != width ||
      tensor.element_count() != 6 * width) {
    tensors.fail_shape(tensor, shape_text(std::vector<std::uint64_t>{6, 1, width}));
  }
  const std::vector<float> values = tensors.floats(tensor);
  auto begin = values.begin();
  for (std::vector<float>* lerp : {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g}) {
    lerp->assign(begin, begin + static_cast<std::ptrdiff_t>(width));
    begin += static_cast<std::ptrdiff_t>(width);
  }
}

LayerWeights load_layer(TensorLookup& tensors, const Config& config, std::uint32_t layer) {
  const std::uint32_t width = config.width;
  const auto named = [&](std::string_view part) { return tensors.layer_name(layer, part); };
  const auto vector = [&](std::string_view part) { return tensors.vector(named(part), width); };
  const auto matrix = [&](std::string_view part, std::uint32_t rows, std::uint32_t columns) {
    return tensors.matrix(named(part), rows, columns);
  };
  const auto low_rank = [&](std::string_view part, std::uint32_t rows, std::uint32_t columns) {
    return tensors.low_rank(named(part), rows, columns);
  };
  LayerWeights weights;
  weights.ln1 = {vector("ln1.weight"), vector("ln1.bias")};
  weights.ln2 = {vector("ln2.weight"), vector("ln2.bias")};

  TimeMixWeights& att = weights.att;
  load_lerps(tensors, config, layer, att);
  att.w0 = vector("att.w0");
  att.w1 = low_rank("att.w1", config.rank_w, width);
  att.w2 = low_rank("att.w2", width, config.rank_w);
  att.a0 = vector("att.a0");
  att.a1 = low_rank("att.a1", config.rank_a, width);
  att.a2 = low_rank("att.a2", width, config.rank_a);
  if (layer > 0) {
    att.v0 = vector("att.v0");
    att.v1 = low_rank("att.v1", config.rank_v, width);
    att.v2 = low_rank("att.v2", width, config.rank_v);
  }
  att.g1 = low_rank("att.g1", config.rank_g, width);
  att.g2 = low_rank("att.g2", width, config.rank_g);
  att.k_k = vector("att.k_k");
  att.k_a = vector("att.k_a");
  att.r_k = load_r_k(tensors, config, layer);
  att.receptance = matrix("att.receptance.weight", width, width);
  att.key = matrix("att.key.weight", width, width);
  att.value = matrix("att.value.weight", width, width);
  att.output = matrix("att.output.weight", width, width);
  att.ln_x = {vector("att.ln_x.weight"), vector("att.ln_x.bias")};

  weights.ffn.x_k = vector("ffn.x_k");
  weights.ffn.key = matrix("ffn.key.weight", config.ffn_width, width);
  weights.ffn.value = matrix("ffn.value.weight", width, config.ffn_width);
  return weights;
}

}  // namespace

Weights load_weights(const TensorSource& source) {
  TensorLookup tensors(source);
  const Config config = read_config(tensors);
  const auto norm = [&](std::string_view weight, std::string_view bias) -> LayerNormWeights {
    return {tensors.vector(tensors.model_name(weight), config.width),
            tensors.vector(tensors.model_name(bias), config.width)};
  };
  const auto vocabulary = [&](std::string_view part) {
    return tensors.matrix(tensors.model_name(part), config.vocab_size, config.width);
  };
  Weights weights;
  weights.config = config;
  weights.naming = name(tensors.naming());
  weights.emb = vocabulary("emb.weight");
  weights.ln0 = norm("ln0.weight", "ln0.bias");
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    weights.layers.push_back(load_layer(tensors, config, layer));
  }
  weights.ln_out = norm("ln_out.weight", "ln_out.bias");
  weights.head = vocabulary("head.weight");
  tensors.check_all_used();
  weights.storage = tensors.storage();
  return weights;
}

std::uint64_t bytes_per_token(const Weights& weights) {
  std::uint64_t bytes = weights.emb.row_size() + weights.head.size();
  for (const LayerWeights& layer : weights.layers) {
    const TimeMixWeights& att = layer.att;
    for (const Matrix* matrix :
         {&att.w1, &att.w2, &att.a1, &att.a2, &att.v1, &att.v2, &att.g1, &att.g2, &att.receptance,
          &att.key, &att.value, &att.output, &layer.ffn.key, &layer.ffn.value}) {
      bytes += matrix->size();
    }
  }
  return bytes;
}

}  // namespace gander
