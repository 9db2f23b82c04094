#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "model/tensor.h"

namespace gander {

/// A metadata value of a checkpoint. Arrays of numbers are checked by the readers and then dropped:
/// nothing uses them.
using MetadataValue =
    std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::string>>;

/// What every checkpoint reader produces: named tensors over mapped memory, plus metadata.
/// Copies share the mapping.
struct TensorSource {
  std::string path;
  std::string format;           ///< for people: "GGUF v3", "safetensors (3 shards)", "PyTorch .pth"
  std::vector<Tensor> tensors;  ///< in file order
  std::map<std::string, MetadataValue> metadata;     ///< GGUF keys, safetensors' __metadata__
  std::vector<std::shared_ptr<const void>> storage;  ///< keeps the bytes of `tensors` alive

  /// The tensor of that name, or null.
  const Tensor* find(std::string_view name) const;
};

/// Opens a checkpoint of any known format, recognised by content, not by name:
/// GGUF v2/v3, safetensors (a file, or a folder or index.json of shards), PyTorch zip.
/// Throws Error with the file, the offset or tensor, and the reason.
TensorSource open_checkpoint(const std::string& path);

}  // namespace gander
