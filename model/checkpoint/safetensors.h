#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "model/checkpoint/tensor_source.h"

// safetensors: 8 bytes of header length, a JSON object {"name": {"dtype", "shape",
// "data_offsets": [begin, end]}}, and the data, which the offsets tile without gap or overlap.
namespace gander {

/// Whether bytes start like a safetensors file.
bool looks_like_safetensors(std::span<const std::byte> bytes);

/// Parses a file that lies in memory; the tensors are views into `bytes`, which the caller keeps.
/// `path` is for messages. Throws Error.
TensorSource parse_safetensors(std::span<const std::byte> bytes, const std::string& path);

/// Maps all shards that a `model.safetensors.index.json` names; they must lie beside it.
TensorSource open_safetensors_shards(const std::string& index_path);

/// Adds the plain values of `config.json` in `folder`, if there is one, to the metadata of a
/// checkpoint with Hugging Face names, as "config.json/KEY".
void add_hugging_face_config(TensorSource& source, const std::string& folder);

}  // namespace gander
