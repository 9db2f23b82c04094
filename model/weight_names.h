#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/checkpoint/tensor_source.h"

// Four families of tensor names for the same model. Code speaks of tensors by their names in
// BlinkDL's files ("att.w1" of layer 3); this translates. The families are listed in
// docs/formats.md.
namespace gander {

enum class Naming { BlinkDL, WebRwkv, HuggingFace, Gguf };

/// "BlinkDL", "web-rwkv", "Hugging Face" or "GGUF".
std::string_view name(Naming naming);

/// Whose names the tensors of a checkpoint have. Throws Error for what is not RWKV-7, and says
/// what it is as far as its names or its metadata tell.
Naming recognise_naming(const TensorSource& source);

/// The name in the file of `part`, a tensor outside the layers: "emb.weight", "ln0.bias".
std::string model_tensor_name(Naming naming, std::string_view part);
/// The name of `part` of a layer: "att.w1", "ffn.key.weight".
std::string layer_tensor_name(Naming naming, std::uint32_t layer, std::string_view part);
/// What the names of all tensors of all layers start with: "blocks.".
std::string_view layer_prefix(Naming naming);

/// Throws the Error for a tensor that RWKV-7 does not have: a relative's, if it is known as one.
[[noreturn]] void fail_foreign_tensor(const TensorSource& source, std::string_view name);

}  // namespace gander
