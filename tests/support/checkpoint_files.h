#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "model/weights.h"

// Checkpoints of a model in every format and naming, built byte by byte from the formats'
// descriptions, without the code under test.
namespace gander {

/// Bytes put together piece by piece.
class ByteBuilder {
 public:
  template <typename T>
  requires std::is_arithmetic_v<T> ByteBuilder& add(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return add(bytes);
  }
  ByteBuilder& add(std::span<const std::byte> bytes);
  ByteBuilder& text(std::string_view text) { return add(std::as_bytes(std::span(text))); }
  ByteBuilder& zeros(std::size_t count);
  std::size_t size() const { return bytes_.size(); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// A tensor as it is to lie in a file; shape in PyTorch order.
struct FileTensor {
  std::string name;
  DataType type = DataType::F32;
  std::vector<std::uint64_t> shape;
  std::vector<std::byte> bytes;
};

// The tensors of a model as each family of files has them. Values are converted to `type`.
std::vector<FileTensor> blinkdl_tensors(const Weights& weights, DataType type);
std::vector<FileTensor> web_rwkv_tensors(const Weights& weights);
/// With `fused`, the six lerps of a layer are one x_x.
std::vector<FileTensor> hugging_face_tensors(const Weights& weights, DataType type, bool fused);
/// Matrices in `type`, vectors in F32; the idle value mix of layer 0 included.
std::vector<FileTensor> gguf_tensors(const Weights& weights, DataType type);

/// A safetensors file; `metadata` is JSON for __metadata__, if not empty.
std::vector<std::byte> safetensors_file(const std::vector<FileTensor>& tensors,
                                        const std::string& metadata = "");
/// 8 bytes of length, the header as it is given, and data.
std::vector<std::byte> safetensors_bytes(std::string_view header, std::size_t data_size);

using FileValue = std::variant<bool, std::uint32_t, float, std::string, std::vector<std::string>>;

struct GgufFile {
  std::uint32_t version = 3;
  std::uint32_t alignment = 32;  ///< written as general.alignment unless 32
  std::vector<std::pair<std::string, FileValue>> metadata;
  std::vector<FileTensor> tensors;
};
/// The metadata llama.cpp writes for a model.
std::vector<std::pair<std::string, FileValue>> gguf_metadata(const Config& config);
std::vector<std::byte> gguf_file(const GgufFile& file);

struct PthOptions {
  int protocol = 2;                ///< of pickle: 2, as torch.save uses, or 4
  bool zip64 = false;              ///< sizes, offsets and the directory in zip64 records
  bool sizes_follow_data = true;   ///< as PyTorch writes: zero in local headers, then a descriptor
  bool outer_state_dict = false;   ///< {"epoch": 3, "state_dict": {...}}
  bool one_storage = false;        ///< all tensors of a type share a storage
  bool module_attributes = false;  ///< an OrderedDict with _metadata, set by BUILD
};
std::vector<std::byte> pth_file(const std::vector<FileTensor>& tensors,
                                const PthOptions& options = {});
/// A zip archive with stored entries of these names and contents.
std::vector<std::byte> zip_file(
    const std::vector<std::pair<std::string, std::vector<std::byte>>>& entries,
    const PthOptions& options = {});

/// Writes bytes to a file.
void write_bytes(const std::string& path, std::span<const std::byte> bytes);

/// What differs between two models, for a failure message; empty when config and all dequantised
/// values are equal.
std::string difference(const Weights& a, const Weights& b);

}  // namespace gander
