#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/atomic_file.h"
#include "model/tensor.h"

namespace gander {

/// A metadata value to write; its C++ type decides the type in the file.
using GgufValue = std::variant<bool, std::uint32_t, std::int32_t, std::uint64_t, float, std::string,
                               std::vector<std::string>, std::vector<std::int32_t>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

/// A tensor to write. shape is in PyTorch order; the writer turns it round.
struct GgufTensor {
  std::string name;
  DataType type = DataType::F32;
  std::vector<std::uint64_t> shape;
};

/// Writes a GGUF v3 file as a stream: the header first, then the data of the tensors in the order
/// of their descriptions, so that no more than a piece of one needs to be in memory. The file
/// appears whole or not at all (AtomicFile).
class GgufWriter {
 public:
  /// Creates the file and writes the header. Throws Error.
  GgufWriter(std::string path, const GgufMetadata& metadata, std::vector<GgufTensor> tensors);

  /// The next bytes of tensor data, in pieces of any size; a piece must not reach past the end of
  /// the tensor it belongs to. Padding is added by itself. Throws Error.
  void write(std::span<const std::byte> bytes);
  /// Finishes the file, once all data have been written. Throws Error.
  void commit();

 private:
  void begin_tensor();

  AtomicFile file_;
  std::vector<GgufTensor> tensors_;
  std::size_t current_ = 0;      // the tensor whose data come next
  std::uint64_t remaining_ = 0;  // bytes of it still to come
};

}  // namespace gander
