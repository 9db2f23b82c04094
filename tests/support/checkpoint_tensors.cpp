#include <fmt/format.h>

#include "model/quant/blocks.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/synthetic_model.h"

// The tensors of a model under the names and in the shapes of each family of files.
namespace gander {

namespace {

std::vector<std::byte> encode(DataType type, std::span<const float> values) {
  std::vector<std::byte> bytes(row_bytes(type, values.size()));
  quantize(type, values, bytes);
  return bytes;
}

FileTensor vector_tensor(std::string name, DataType type, const std::vector<float>& values,
                         std::vector<std::uint64_t> shape) {
  return {std::move(name), type, std::move(shape), encode(type, values)};
}

FileTensor matrix_tensor(std::string name, DataType type, const Matrix& matrix) {
  return {std::move(name), type, {matrix.rows, matrix.columns}, encode(type, dequantized(matrix))};
}

FileTensor transposed_tensor(std::string name, DataType type, const Matrix& matrix) {
  const auto values = dequantized(matrix);
  std::vector<float> transposed;
  for (std::uint32_t column = 0; column < matrix.columns; ++column) {
    for (std::uint32_t row = 0; row < matrix.rows; ++row) {
      transposed.push_back(values[std::size_t{row} * matrix.columns + column]);
    }
  }
  return {std::move(name), type, {matrix.columns, matrix.rows}, encode(type, transposed)};
}

/// BlinkDL's names and shapes; web-rwkv's differ in the orientation of the low-rank matrices.
std::vector<FileTensor> pytorch_tensors(const Weights& weights, DataType type, bool transpose) {
  const std::uint64_t width = weights.config.width;
  std::vector<FileTensor> tensors;
  const auto vector = [&](const std::string& name, const std::vector<float>& values) {
    tensors.push_back(vector_tensor(name, type, values, {width}));
  };
  const auto mix = [&](const std::string& name, const std::vector<float>& values) {
    tensors.push_back(vector_tensor(name, type, values, {1, 1, width}));
  };
  const auto matrix = [&](const std::string& name, const Matrix& values) {
    tensors.push_back(matrix_tensor(name, type, values));
  };
  const auto low_rank = [&](const std::string& name, const Matrix& values) {
    tensors.push_back(transpose ? transposed_tensor(name, type, values)
                                : matrix_tensor(name, type, values));
  };
  matrix("emb.weight", weights.emb);
  vector("blocks.0.ln0.weight", weights.ln0.weight);
  vector("blocks.0.ln0.bias", weights.ln0.bias);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const TimeMixWeights& att = layer.att;
    const std::string block = fmt::format("blocks.{}.", i);
    vector(block + "ln1.weight", layer.ln1.weight);
    vector(block + "ln1.bias", layer.ln1.bias);
    vector(block + "ln2.weight", layer.ln2.weight);
    vector(block + "ln2.bias", layer.ln2.bias);
    mix(block + "att.x_r", att.x_r);
    mix(block + "att.x_w", att.x_w);
    mix(block + "att.x_k", att.x_k);
    mix(block + "att.x_v", att.x_v);
    mix(block + "att.x_a", att.x_a);
    mix(block + "att.x_g", att.x_g);
    mix(block + "att.w0", att.w0);
    low_rank(block + "att.w1", att.w1);
    low_rank(block + "att.w2", att.w2);
    mix(block + "att.a0", att.a0);
    low_rank(block + "att.a1", att.a1);
    low_rank(block + "att.a2", att.a2);
    if (i > 0) {
      mix(block + "att.v0", att.v0);
      low_rank(block + "att.v1", att.v1);
      low_rank(block + "att.v2", att.v2);
    }
    low_rank(block + "att.g1", att.g1);
    low_rank(block + "att.g2", att.g2);
    mix(block + "att.k_k", att.k_k);
    mix(block + "att.k_a", att.k_a);
    tensors.push_back(vector_tensor(block + "att.r_k", type, att.r_k,
                                    {weights.config.heads, weights.config.head_size}));
    matrix(block + "att.receptance.weight", att.receptance);
    matrix(block + "att.key.weight", att.key);
    matrix(block + "att.value.weight", att.value);
    matrix(block + "att.output.weight", att.output);
    vector(block + "att.ln_x.weight", att.ln_x.weight);
    vector(block + "att.ln_x.bias", att.ln_x.bias);
    mix(block + "ffn.x_k", layer.ffn.x_k);
    matrix(block + "ffn.key.weight", layer.ffn.key);
    matrix(block + "ffn.value.weight", layer.ffn.value);
  }
  vector("ln_out.weight", weights.ln_out.weight);
  vector("ln_out.bias", weights.ln_out.bias);
  matrix("head.weight", weights.head);
  return tensors;
}

std::vector<float> fused_lerps(const TimeMixWeights& att) {
  std::vector<float> fused;
  for (const auto* lerp : {&att.x_r, &att.x_w, &att.x_k, &att.x_v, &att.x_a, &att.x_g}) {
    fused.insert(fused.end(), lerp->begin(), lerp->end());
  }
  return fused;
}

}  // namespace

std::vector<FileTensor> blinkdl_tensors(const Weights& weights, DataType type) {
  return pytorch_tensors(weights, type, true);
}

std::vector<FileTensor> web_rwkv_tensors(const Weights& weights) {
  return pytorch_tensors(weights, DataType::F16, false);
}

std::vector<FileTensor> hugging_face_tensors(const Weights& weights, DataType type, bool fused) {
  const std::uint64_t width = weights.config.width;
  std::vector<FileTensor> tensors;
  const auto vector = [&](const std::string& name, const std::vector<float>& values) {
    tensors.push_back(vector_tensor(name, type, values, {width}));
  };
  const auto matrix = [&](const std::string& name, const Matrix& values) {
    tensors.push_back(matrix_tensor(name, type, values));
  };
  const auto norm = [&](const std::string& name, const LayerNormWeights& values) {
    vector(name + ".weight", values.weight);
    vector(name + ".bias", values.bias);
  };
  matrix("model.embeddings.weight", weights.emb);
  norm("model.layers.0.pre_norm", weights.ln0);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const TimeMixWeights& att = layer.att;
    const std::string prefix = fmt::format("model.layers.{}.", i);
    const auto lora = [&](const std::string& name, const std::vector<float>* bias,
                          const Matrix& first, const Matrix& second) {
      const std::string lora_prefix = fmt::format("{}attn.{}_lora.lora.", prefix, name);
      matrix(lora_prefix + "0.weight", first);
      matrix(lora_prefix + "2.weight", second);
      if (bias != nullptr) vector(lora_prefix + "2.bias", *bias);
    };
    norm(prefix + "attn_norm", layer.ln1);
    norm(prefix + "ffn_norm", layer.ln2);
    if (fused) {
      tensors.push_back(vector_tensor(prefix + "attn.x_x", type, fused_lerps(att), {6, 1, width}));
    } else {
      const auto lerp = [&](const char* name, const std::vector<float>& values) {
        tensors.push_back(vector_tensor(prefix + "attn." + name, type, values, {1, 1, width}));
      };
      lerp("x_r", att.x_r);
      lerp("x_w", att.x_w);
      lerp("x_k", att.x_k);
      lerp("x_v", att.x_v);
      lerp("x_a", att.x_a);
      lerp("x_g", att.x_g);
    }
    lora("w", &att.w0, att.w1, att.w2);
    lora("a", &att.a0, att.a1, att.a2);
    if (i > 0) lora("v", &att.v0, att.v1, att.v2);
    lora("g", nullptr, att.g1, att.g2);
    vector(prefix + "attn.k_k", att.k_k);
    vector(prefix + "attn.k_a", att.k_a);
    tensors.push_back(vector_tensor(prefix + "attn.r_k", type, att.r_k,
                                    {weights.config.heads, weights.config.head_size}));
    matrix(prefix + "attn.r_proj.weight", att.receptance);
    matrix(prefix + "attn.k_proj.weight", att.key);
    matrix(prefix + "attn.v_proj.weight", att.value);
    matrix(prefix + "attn.o_proj.weight", att.output);
    norm(prefix + "attn.g_norm", att.ln_x);
    vector(prefix + "ffn.x_k", layer.ffn.x_k);
    matrix(prefix + "ffn.key.weight", layer.ffn.key);
    matrix(prefix + "ffn.value.weight", layer.ffn.value);
  }
  norm("model.norm", weights.ln_out);
  matrix("lm_head.weight", weights.head);
  return tensors;
}

std::vector<FileTensor> gguf_tensors(const Weights& weights, DataType type) {
  const std::uint64_t width = weights.config.width;
  std::vector<FileTensor> tensors;
  const auto vector = [&](const std::string& name, const std::vector<float>& values) {
    tensors.push_back(vector_tensor(name, DataType::F32, values, {width}));
  };
  const auto matrix = [&](const std::string& name, const Matrix& values) {
    tensors.push_back(matrix_tensor(name, type, values));
  };
  const auto norm = [&](const std::string& name, const LayerNormWeights& values) {
    vector(name + ".weight", values.weight);
    vector(name + ".bias", values.bias);
  };
  matrix("token_embd.weight", weights.emb);
  norm("token_embd_norm", weights.ln0);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const TimeMixWeights& att = layer.att;
    const std::string prefix = fmt::format("blk.{}.", i);
    norm(prefix + "attn_norm", layer.ln1);
    norm(prefix + "attn_norm_2", layer.ln2);
    vector(prefix + "time_mix_w0.weight", att.w0);
    matrix(prefix + "time_mix_w1.weight", att.w1);
    matrix(prefix + "time_mix_w2.weight", att.w2);
    vector(prefix + "time_mix_a0.weight", att.a0);
    matrix(prefix + "time_mix_a1.weight", att.a1);
    matrix(prefix + "time_mix_a2.weight", att.a2);
    vector(prefix + "time_mix_v0.weight", i == 0 ? att.a0 : att.v0);
    matrix(prefix + "time_mix_v1.weight", i == 0 ? att.a1 : att.v1);
    matrix(prefix + "time_mix_v2.weight", i == 0 ? att.a2 : att.v2);
    matrix(prefix + "time_mix_g1.weight", att.g1);
    matrix(prefix + "time_mix_g2.weight", att.g2);
    vector(prefix + "time_mix_k_k.weight", att.k_k);
    vector(prefix + "time_mix_k_a.weight", att.k_a);
    vector(prefix + "time_mix_r_k.weight", att.r_k);
    tensors.push_back(vector_tensor(prefix + "time_mix_lerp_fused.weight", DataType::F32,
                                    fused_lerps(att), {6, 1, 1, width}));
    matrix(prefix + "time_mix_receptance.weight", att.receptance);
    matrix(prefix + "time_mix_key.weight", att.key);
    matrix(prefix + "time_mix_value.weight", att.value);
    matrix(prefix + "time_mix_output.weight", att.output);
    norm(prefix + "time_mix_ln", att.ln_x);
    tensors.push_back(vector_tensor(prefix + "channel_mix_lerp_k.weight", DataType::F32,
                                    layer.ffn.x_k, {1, 1, width}));
    matrix(prefix + "channel_mix_key.weight", layer.ffn.key);
    matrix(prefix + "channel_mix_value.weight", layer.ffn.value);
  }
  norm("output_norm", weights.ln_out);
  matrix("output.weight", weights.head);
  return tensors;
}

}  // namespace gander
