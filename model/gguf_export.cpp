#include "model/gguf_export.h"

#include <algorithm>
#include <variant>

#include "base/error.h"
#include "model/quant/blocks.h"
#include "model/weight_names.h"

namespace gander {

namespace {

using Vectors = std::vector<const std::vector<float>*>;

/// A tensor of the file and where its values come from: a matrix, or vectors laid end to end.
struct Item {
  GgufTensor tensor;
  std::variant<Matrix, Vectors> values;
};

class ItemList {
 public:
  explicit ItemList(const ChooseType& choose_type) : choose_type_(choose_type) {}

  void add(std::string name, const Matrix& matrix) {
    const DataType type = choose_type_(name, matrix);
    items_.push_back({{std::move(name), type, {matrix.rows, matrix.columns}}, matrix});
  }
  void add(std::string name, const std::vector<float>& vector) {
    items_.push_back({{std::move(name), DataType::F32, {vector.size()}}, Vectors{&vector}});
  }
  void add(std::string name, std::vector<std::uint64_t> shape, Vectors vectors) {
    items_.push_back({{std::move(name), DataType::F32, std::move(shape)}, std::move(vectors)});
  }
  const std::vector<Item>& items() const { return items_; }
  std::vector<GgufTensor> tensors() const {
    std::vector<GgufTensor> tensors;
    for (const Item& item : items_) tensors.push_back(item.tensor);
    return tensors;
  }

 private:
  const ChooseType& choose_type_;
  std::vector<Item> items_;
};

void add_layer(ItemList& list, std::uint32_t index, const LayerWeights& layer) {
  const auto named = [&](std::string_view part) {
    return layer_tensor_name(Naming::Gguf, index, part);
  };
  const TimeMixWeights& att = layer.att;
  const std::uint64_t width = att.w0.size();
  list.add(named("ln1.weight"), layer.ln1.weight);
  list.add(named("ln1.bias"), layer.ln1.bias);
  list.add(named("ln2.weight"), layer.ln2.weight);
  list.add(named("ln2.bias"), layer.ln2.bias);
  list.add(named("att.x_fused"), {6, 1, 1, width},
           {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g});
  list.add(named("att.w0"), att.w0);
  list.add(named("att.w1"), att.w1);
  list.add(named("att.w2"), att.w2);
  list.add(named("att.a0"), att.a0);
  list.add(named("att.a1"), att.a1);
  list.add(named("att.a2"), att.a2);
  list.add(named("att.v0"), index == 0 ? att.a0 : att.v0);
  list.add(named("att.v1"), index == 0 ? att.a1 : att.v1);
  list.add(named("att.v2"), index == 0 ? att.a2 : att.v2);
  list.add(named("att.g1"), att.g1);
  list.add(named("att.g2"), att.g2);
  list.add(named("att.k_k"), att.k_k);
  list.add(named("att.k_a"), att.k_a);
  list.add(named("att.r_k"), att.r_k);
  list.add(named("att.receptance.weight"), att.receptance);
  list.add(named("att.key.weight"), att.key);
  list.add(named("att.value.weight"), att.value);
  list.add(named("att.output.weight"), att.output);
  list.add(named("att.ln_x.weight"), att.ln_x.weight);
  list.add(named("att.ln_x.bias"), att.ln_x.bias);
  list.add(named("ffn.x_k"), {1, 1, width}, {&layer.ffn.x_k});
  list.add(named("ffn.key.weight"), layer.ffn.key);
  list.add(named("ffn.value.weight"), layer.ffn.value);
}

ItemList list_items(const Weights& weights, const ChooseType& choose_type) {
  const auto named = [](std::string_view part) { return model_tensor_name(Naming::Gguf, part); };
  ItemList list(choose_type);
  list.add(named("emb.weight"), weights.emb);
  list.add(named("ln0.weight"), weights.ln0.weight);
  list.add(named("ln0.bias"), weights.ln0.bias);
  for (std::uint32_t i = 0; i < weights.layers.size(); ++i) add_layer(list, i, weights.layers[i]);
  list.add(named("ln_out.weight"), weights.ln_out.weight);
  list.add(named("ln_out.bias"), weights.ln_out.bias);
  list.add(named("head.weight"), weights.head);
  return list;
}

GgufMetadata architecture_keys(const Config& config) {
  constexpr std::uint32_t kContextLength = 1 << 20;  // RWKV has no limit; llama.cpp writes this
  return {
      {"general.architecture", std::string("rwkv7")},
      {"general.quantization_version", std::uint32_t{2}},
      {"rwkv7.context_length", kContextLength},
      {"rwkv7.embedding_length", config.width},
      {"rwkv7.block_count", config.layers},
      {"rwkv7.feed_forward_length", config.ffn_width},
      {"rwkv7.attention.layer_norm_epsilon", config.norm_epsilon},
      {"rwkv7.attention.head_count", std::uint32_t{0}},
      {"rwkv7.wkv.head_size", config.head_size},
      {"rwkv7.attention.decay_lora_rank", config.rank_w},
      {"rwkv7.attention.iclr_lora_rank", config.rank_a},
      {"rwkv7.attention.value_residual_mix_lora_rank", config.rank_v},
      {"rwkv7.attention.gate_lora_rank", config.rank_g},
  };
}

/// Every id of the model gets an entry: 0 is end of document, ids without bytes are padding.
void add_tokenizer_keys(GgufMetadata& metadata, const Tokenizer& tokenizer,
                        std::uint32_t vocab_size) {
  enum TokenType : std::int32_t { kNormal = 1, kControl = 3, kUnused = 5 };
  if (tokenizer.size() > vocab_size) {
    fail("the vocabulary has {} ids, but the model only {}", tokenizer.size(), vocab_size);
  }
  std::vector<std::string> tokens = {"<s>"};
  std::vector<std::int32_t> types = {kControl};
  for (TokenId id = 1; id < vocab_size; ++id) {
    const std::string_view bytes = tokenizer.bytes(id);
    tokens.push_back(bytes.empty() ? fmt::format("[PAD{}]", id) : escape_token(bytes));
    types.push_back(bytes.empty() ? kUnused : kNormal);
  }
  metadata.emplace_back("tokenizer.ggml.model", std::string("rwkv"));
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(tokens));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(types));
  metadata.emplace_back("tokenizer.ggml.bos_token_id", std::uint32_t{0});
  metadata.emplace_back("tokenizer.ggml.eos_token_id", std::uint32_t{0});
}

bool write_items(GgufWriter& writer, const ItemList& list, const ExportOptions& options) {
  const MatrixEncoder encoder(options.rounding, options.importance, options.threads);
  std::uint64_t done = 0;
  const auto take = [&](std::span<const std::byte> bytes, std::size_t weights) {
    writer.write(bytes);
    done += weights;
    return !options.progress || options.progress(done);
  };
  for (const Item& item : list.items()) {
    const GgufTensor& tensor = item.tensor;
    if (const auto* const matrix = std::get_if<Matrix>(&item.values)) {
      if (!encoder.encode(tensor.name, *matrix, tensor.type, take)) return false;
      continue;
    }
    for (const std::vector<float>* const vector : std::get<Vectors>(item.values)) {
      require_finite(tensor.name, *vector);
      if (!take(std::as_bytes(std::span(*vector)), vector->size())) return false;
    }
  }
  return true;
}

}  // namespace

ChooseType store_as(DataType large, DataType low_rank) {
  return [large, low_rank](std::string_view name, const Matrix& matrix) {
    constexpr std::string_view kLowRank[] = {"_w1.", "_w2.", "_a1.", "_a2.",
                                             "_v1.", "_v2.", "_g1.", "_g2."};
    const bool is_low_rank = std::ranges::any_of(
        kLowRank, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
    const DataType type = is_low_rank ? low_rank : large;
    return matrix.columns % info(type).block_size == 0 ? type : DataType::F16;
  };
}

GgufMetadata model_metadata(const Config& config, const Tokenizer* tokenizer) {
  GgufMetadata keys = architecture_keys(config);
  if (tokenizer != nullptr) add_tokenizer_keys(keys, *tokenizer, config.vocab_size);
  return keys;
}

bool export_gguf(const std::string& path, const Weights& weights, const Tokenizer* tokenizer,
                 const ChooseType& choose_type, const ExportOptions& options) {
  GgufMetadata keys = model_metadata(weights.config, tokenizer);
  keys.insert(keys.end(), options.metadata.begin(), options.metadata.end());
  const ItemList list = list_items(weights, choose_type);
  GgufWriter writer(path, keys, list.tensors());
  if (!write_items(writer, list, options)) return false;
  writer.commit();
  return true;
}

std::vector<GgufTensor> exported_tensors(const Weights& weights, const ChooseType& choose_type) {
  return list_items(weights, choose_type).tensors();
}

}  // namespace gander
