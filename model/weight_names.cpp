#include "model/weight_names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"

namespace gander {

namespace {

struct NameRow {
  std::string_view blinkdl;  // web-rwkv has the same
  std::string_view hugging_face;
  std::string_view gguf;
};

constexpr std::array<NameRow, 6> kModelNames = {{
    {"emb.weight", "model.embeddings.weight", "token_embd.weight"},
    {"ln0.weight", "model.layers.0.pre_norm.weight", "token_embd_norm.weight"},
    {"ln0.bias", "model.layers.0.pre_norm.bias", "token_embd_norm.bias"},
    {"ln_out.weight", "model.norm.weight", "output_norm.weight"},
    {"ln_out.bias", "model.norm.bias", "output_norm.bias"},
    {"head.weight", "lm_head.weight", "output.weight"},
}};

// x_fused stands for the six lerps in one tensor, which BlinkDL's files do not have.
constexpr std::array<NameRow, 34> kLayerNames = {{
    {"ln1.weight", "attn_norm.weight", "attn_norm.weight"},
    {"ln1.bias", "attn_norm.bias", "attn_norm.bias"},
    {"ln2.weight", "ffn_norm.weight", "attn_norm_2.weight"},
    {"ln2.bias", "ffn_norm.bias", "attn_norm_2.bias"},
    {"att.x_fused", "attn.x_x", "time_mix_lerp_fused.weight"},
    {"att.x_r", "attn.x_r", ""},
    {"att.x_w", "attn.x_w", ""},
    {"att.x_k", "attn.x_k", ""},
    {"att.x_v", "attn.x_v", ""},
    {"att.x_a", "attn.x_a", ""},
    {"att.x_g", "attn.x_g", ""},
    {"att.w0", "attn.w_lora.lora.2.bias", "time_mix_w0.weight"},
    {"att.w1", "attn.w_lora.lora.0.weight", "time_mix_w1.weight"},
    {"att.w2", "attn.w_lora.lora.2.weight", "time_mix_w2.weight"},
    {"att.a0", "attn.a_lora.lora.2.bias", "time_mix_a0.weight"},
    {"att.a1", "attn.a_lora.lora.0.weight", "time_mix_a1.weight"},
    {"att.a2", "attn.a_lora.lora.2.weight", "time_mix_a2.weight"},
    {"att.v0", "attn.v_lora.lora.2.bias", "time_mix_v0.weight"},
    {"att.v1", "attn.v_lora.lora.0.weight", "time_mix_v1.weight"},
    {"att.v2", "attn.v_lora.lora.2.weight", "time_mix_v2.weight"},
    {"att.g1", "attn.g_lora.lora.0.weight", "time_mix_g1.weight"},
    {"att.g2", "attn.g_lora.lora.2.weight", "time_mix_g2.weight"},
    {"att.k_k", "attn.k_k", "time_mix_k_k.weight"},
    {"att.k_a", "attn.k_a", "time_mix_k_a.weight"},
    {"att.r_k", "attn.r_k", "time_mix_r_k.weight"},
    {"att.receptance.weight", "attn.r_proj.weight", "time_mix_receptance.weight"},
    {"att.key.weight", "attn.k_proj.weight", "time_mix_key.weight"},
    {"att.value.weight", "attn.v_proj.weight", "time_mix_value.weight"},
    {"att.output.weight", "attn.o_proj.weight", "time_mix_output.weight"},
    {"att.ln_x.weight", "attn.g_norm.weight", "time_mix_ln.weight"},
    {"att.ln_x.bias", "attn.g_norm.bias", "time_mix_ln.bias"},
    {"ffn.x_k", "ffn.x_k", "channel_mix_lerp_k.weight"},
    {"ffn.key.weight", "ffn.key.weight", "channel_mix_key.weight"},
    {"ffn.value.weight", "ffn.value.weight", "channel_mix_value.weight"},
}};

std::string_view pick(std::span<const NameRow> rows, Naming naming, std::string_view part) {
  const auto row = std::ranges::find(rows, part, &NameRow::blinkdl);
  if (row == rows.end()) fail("internal error: no tensor is called {}", part);
  switch (naming) {
    case Naming::HuggingFace:
      return row->hugging_face;
    case Naming::Gguf:
      return row->gguf;
    default:
      return row->blinkdl;
  }
}

std::optional<std::string_view> text_value(const TensorSource& source, const char* key) {
  const auto found = source.metadata.find(key);
  if (found == source.metadata.end()) return std::nullopt;
  const auto* text = std::get_if<std::string>(&found->second);
  return text == nullptr ? std::nullopt : std::optional<std::string_view>(*text);
}

[[noreturn]] void fail_architecture(const TensorSource& source, std::string_view found) {
  fail("{}: {}; gander runs RWKV-7 (x070) models only", source.path, found);
}

/// The first tensor whose name contains `part`, or null.
const Tensor* find_containing(const TensorSource& source, std::string_view part) {
  const auto contains = [&](const Tensor& x) { return x.name.find(part) != std::string::npos; };
  const auto found = std::ranges::find_if(source.tensors, contains);
  return found == source.tensors.end() ? nullptr : &*found;
}

void check_architecture(const TensorSource& source) {
  const auto architecture = text_value(source, "general.architecture");
  if (!architecture) {
    fail("{}: general.architecture is missing, so it is not known what model it holds",
         source.path);
  }
  if (*architecture == "rwkv7") return;
  std::string_view what;
  if (*architecture == "rwkv6") what = " (RWKV-6)";
  if (*architecture == "rwkv6qwen2") what = " (Qwen2 with RWKV-6 attention)";
  if (*architecture == "arwkv7") what = " (ARWKV-7: RMSNorm, SwiGLU, one token shift)";
  fail_architecture(source, fmt::format("its architecture is {}{}", quote(*architecture), what));
}

/// Names what a checkpoint without RWKV-7 tensors holds.
[[noreturn]] void fail_unknown_model(const TensorSource& source) {
  struct Telltale {
    std::string_view part, what;
  };
  constexpr std::array kTelltales = {
      Telltale{"time_state", "a state file for an RWKV model, not a model; load it as a state"},
      Telltale{"time_maa", "an RWKV-6 model"},
      Telltale{"time_mix_w1", "an RWKV-6 model"},
      Telltale{"time_mixer", "an ARWKV model"},
      Telltale{"time_faaaa", "an RWKV-5 model"},
      Telltale{"att.ln_x", "an RWKV-5 model"},
      Telltale{"attention.ln_x", "an RWKV-5 model"},
      Telltale{"time_first", "an RWKV-4 model"},
      Telltale{"time_decay", "an RWKV model older than RWKV-7"},
      Telltale{"self_attn", "a transformer"},
  };
  for (const Telltale& telltale : kTelltales) {
    if (const Tensor* const tensor = find_containing(source, telltale.part)) {
      fail_architecture(source, fmt::format("{} (it has {})", telltale.what, tensor->name));
    }
  }
  if (const auto type = text_value(source, "config.json/model_type")) {
    fail_architecture(source, fmt::format("its config.json says model_type {}", quote(*type)));
  }
  fail_architecture(source, source.tensors.empty()
                                ? std::string("it holds no tensors")
                                : fmt::format("no RWKV-7 tensor was found among its {}; the first "
                                              "is {}",
                                              source.tensors.size(), source.tensors.front().name));
}

/// web-rwkv stores the low-rank matrices as y = W x wants them, w1 as [rank, C]; BlinkDL stores
/// them for x@A, [C, rank]. A square one does not tell; if all are square, BlinkDL is assumed.
bool has_transposed_low_rank(const TensorSource& source) {
  const Tensor* const emb = source.find("emb.weight");
  if (emb == nullptr || emb->shape.size() != 2) return false;
  const std::uint64_t width = emb->shape[1];
  for (const Tensor& tensor : source.tensors) {
    const auto& shape = tensor.shape;
    if (!tensor.name.starts_with("blocks.") || shape.size() != 2 || shape[0] == shape[1]) continue;
    for (const std::string_view first : {".att.w1", ".att.a1", ".att.v1", ".att.g1"}) {
      if (tensor.name.ends_with(first)) return shape[1] == width;
    }
  }
  return false;
}

}  // namespace

std::string_view name(Naming naming) {
  switch (naming) {
    case Naming::WebRwkv:
      return "web-rwkv";
    case Naming::HuggingFace:
      return "Hugging Face";
    case Naming::Gguf:
      return "GGUF";
    default:
      return "BlinkDL";
  }
}

Naming recognise_naming(const TensorSource& source) {
  if (source.format.starts_with("GGUF")) {
    check_architecture(source);
    return Naming::Gguf;
  }
  if (source.find("blocks.0.att.r_k") != nullptr) {
    return has_transposed_low_rank(source) ? Naming::WebRwkv : Naming::BlinkDL;
  }
  if (source.find("model.layers.0.attn.r_k") != nullptr) return Naming::HuggingFace;
  fail_unknown_model(source);
}

std::string model_tensor_name(Naming naming, std::string_view part) {
  const std::string_view stored = pick(kModelNames, naming, part);
  const bool in_block_0 = part.starts_with("ln0.") && stored == part;
  return fmt::format("{}{}", in_block_0 ? "blocks.0." : "", stored);
}

std::string layer_tensor_name(Naming naming, std::uint32_t layer, std::string_view part) {
  return fmt::format("{}{}.{}", layer_prefix(naming), layer, pick(kLayerNames, naming, part));
}

std::string_view layer_prefix(Naming naming) {
  switch (naming) {
    case Naming::HuggingFace:
      return "model.layers.";
    case Naming::Gguf:
      return "blk.";
    default:
      return "blocks.";
  }
}

void fail_foreign_tensor(const TensorSource& source, std::string_view name) {
  std::string_view relative = "a model that is not plain RWKV-7";
  const auto contains = [&](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  };
  if (contains(".qkv.")) relative = "RWKV-7b, with deep embedding attention (DEA)";
  if (contains(".ffn.s_emb") || contains(".ffn.s0") || contains(".ffn.s1") || contains(".ffn.s2")) {
    relative = "RWKV-7a, with deep embeddings (DeepEmbed)";
  }
  if (contains("rosa")) relative = "RWKV-8 (ROSA)";
  fail_architecture(source, fmt::format("{} belongs to {}", name, relative));
}

}  // namespace gander
