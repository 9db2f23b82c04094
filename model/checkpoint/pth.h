#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "model/checkpoint/tensor_source.h"

// What torch.save writes: a zip archive with `ROOT/data.pkl`, a pickled dictionary that describes
// the tensors, and their numbers in `ROOT/data/KEY`.
namespace gander {

/// Whether bytes start like a zip archive.
bool looks_like_pth(std::span<const std::byte> bytes);

/// Parses a file that lies in memory; the tensors are views into `bytes`, which the caller keeps.
/// `path` is for messages. Throws Error.
TensorSource parse_pth(std::span<const std::byte> bytes, const std::string& path);

}  // namespace gander
