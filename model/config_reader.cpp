#include "model/config_reader.h"

#include <optional>
#include <type_traits>
#include <variant>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"

namespace gander {

namespace {

std::optional<double> number(const TensorSource& source, const std::string& key) {
  const auto found = source.metadata.find(key);
  if (found == source.metadata.end()) return std::nullopt;
  const auto to_double = [](const auto& value) -> std::optional<double> {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(value)>>) {
      return static_cast<double>(value);
    }
    return std::nullopt;
  };
  const auto value = std::visit(to_double, found->second);
  if (!value) fail("{}: {} is not a number", source.path, key);
  return value;
}

void check_number(const TensorSource& source, const std::string& key, std::uint32_t expected) {
  const auto value = number(source, key);
  if (value && *value != expected) {
    fail("{}: {} is {}, but the tensors say {}", source.path, key, *value, expected);
  }
}

/// Sizes come from the tensors; a file whose metadata disagree is damaged or of another kind.
void check_metadata(const TensorLookup& tensors, const Config& config) {
  if (tensors.naming() == Naming::Gguf) {
    check_number(tensors.source(), "rwkv7.embedding_length", config.width);
    check_number(tensors.source(), "rwkv7.block_count", config.layers);
    check_number(tensors.source(), "rwkv7.feed_forward_length", config.ffn_width);
    const auto shifts = number(tensors.source(), "rwkv7.token_shift_count");
    if (shifts && *shifts != 2) {
      fail("{}: rwkv7.token_shift_count is {}; RWKV-7 has 2 token shifts a layer",
           tensors.source().path, *shifts);
    }
  }
  if (tensors.naming() == Naming::HuggingFace) {
    check_number(tensors.source(), "config.json/hidden_size", config.width);
    check_number(tensors.source(), "config.json/num_hidden_layers", config.layers);
    check_number(tensors.source(), "config.json/intermediate_size", config.ffn_width);
    check_number(tensors.source(), "config.json/head_dim", config.head_size);
    const auto type = tensors.source().metadata.find("config.json/model_type");
    if (type != tensors.source().metadata.end() && type->second != MetadataValue("rwkv7")) {
      const auto* text = std::get_if<std::string>(&type->second);
      fail("{}: config.json says model_type {}; gander runs rwkv7 only", tensors.source().path,
           quote(text == nullptr ? "?" : *text));
    }
  }
}

/// r_k is [H, N]; in GGUF it is flat, and a key says N.
void read_head_size(TensorLookup& tensors, Config& config) {
  const Tensor& r_k = tensors.require(tensors.layer_name(0, "att.r_k"));
  if (tensors.naming() == Naming::Gguf) {
    const auto size = number(tensors.source(), "rwkv7.wkv.head_size");
    if (!size) fail("{}: rwkv7.wkv.head_size is missing", tensors.source().path);
    if (!(*size >= 1 && *size <= config.width) ||
        config.width % static_cast<std::uint32_t>(*size) != 0) {
      fail("{}: rwkv7.wkv.head_size is {}, which does not divide the width {}",
           tensors.source().path, *size, config.width);
    }
    config.head_size = static_cast<std::uint32_t>(*size);
    config.heads = config.width / config.head_size;
    return;
  }
  config.heads = tensors.width(r_k, 0);
  config.head_size = tensors.width(r_k, 1);
  if (std::uint64_t{config.heads} * config.head_size != config.width) {
    tensors.fail_shape(r_k, fmt::format("[H, N] with H * N = {}, the width of {}", config.width,
                                        tensors.model_name("emb.weight")));
  }
}

}  // namespace

Config read_config(TensorLookup& tensors) {
  Config config;
  const Tensor& emb = tensors.require(tensors.model_name("emb.weight"));
  config.vocab_size = tensors.width(emb, 0);
  config.width = tensors.width(emb, 1);
  config.layers = tensors.count_layers();
  read_head_size(tensors, config);
  config.ffn_width = tensors.width(tensors.require(tensors.layer_name(0, "ffn.key.weight")), 0);
  config.rank_w = tensors.rank(0, "att.w1");
  config.rank_a = tensors.rank(0, "att.a1");
  config.rank_g = tensors.rank(0, "att.g1");
  if (config.layers > 1) config.rank_v = tensors.rank(1, "att.v1");
  const auto epsilon = number(tensors.source(), tensors.naming() == Naming::Gguf
                                                    ? "rwkv7.attention.layer_norm_epsilon"
                                                    : "config.json/norm_eps");
  if (epsilon && tensors.naming() != Naming::BlinkDL && tensors.naming() != Naming::WebRwkv) {
    if (!(*epsilon > 0 && *epsilon < 1)) {
      fail("{}: a LayerNorm epsilon of {} makes no sense", tensors.source().path, *epsilon);
    }
    config.norm_epsilon = static_cast<float>(*epsilon);
  }
  check_metadata(tensors, config);
  return config;
}

}  // namespace gander
