#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "model/checkpoint/tensor_source.h"

// GGUF v2 and v3: a header with counts, typed key-value metadata, tensor descriptions, then the
// aligned data section that their offsets count from.
namespace gander {

/// Whether bytes start with GGUF's magic.
bool looks_like_gguf(std::span<const std::byte> bytes);

/// Parses a file that lies in memory; the tensors are views into `bytes`, which the caller keeps.
/// `path` is for messages. Throws Error.
TensorSource parse_gguf(std::span<const std::byte> bytes, const std::string& path);

}  // namespace gander
