#include "model/checkpoint/gguf_writer.h"

#include <cstring>
#include <string_view>
#include <type_traits>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"
#include "model/checkpoint/gguf_format.h"

namespace gander {

namespace {

std::uint64_t padding_after(std::uint64_t size) {
  return (kGgufAlignment - size % kGgufAlignment) % kGgufAlignment;
}

std::uint64_t size_of(const GgufTensor& tensor) {
  const auto size = tensor_bytes(tensor.type, tensor.shape);
  if (!size || tensor.shape.empty() || tensor.shape.back() % info(tensor.type).block_size != 0) {
    fail("cannot write {}: {} does not fit {}", tensor.name, shape_text(tensor.shape),
         info(tensor.type).name);
  }
  return *size;
}

class HeaderBuilder {
 public:
  template <typename T>
  void add(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const std::size_t size = bytes_.size();
    bytes_.resize(size + sizeof(T));
    std::memcpy(bytes_.data() + size, &value, sizeof(T));
  }
  void add(std::string_view text) {
    add(std::uint64_t{text.size()});
    add_raw(text);
  }
  void add_raw(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void add_type(GgufValueType type) { add(static_cast<std::uint32_t>(type)); }

  void add_value(const GgufValue& value) {
    std::visit([this](const auto& typed) { add_typed(typed); }, value);
  }
  void pad() { bytes_.resize(bytes_.size() + padding_after(bytes_.size())); }

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void add_typed(bool value) {
    add_type(GgufValueType::Bool);
    add(std::uint8_t{value});
  }
  void add_typed(std::uint32_t value) {
    add_type(GgufValueType::U32);
    add(value);
  }
  void add_typed(std::int32_t value) {
    add_type(GgufValueType::I32);
    add(value);
  }
  void add_typed(std::uint64_t value) {
    add_type(GgufValueType::U64);
    add(value);
  }
  void add_typed(float value) {
    add_type(GgufValueType::F32);
    add(value);
  }
  void add_typed(const std::string& value) {
    add_type(GgufValueType::String);
    add(std::string_view(value));
  }
  void add_typed(const std::vector<std::string>& values) {
    add_type(GgufValueType::Array);
    add_type(GgufValueType::String);
    add(std::uint64_t{values.size()});
    for (const std::string& value : values) add(std::string_view(value));
  }
  void add_typed(const std::vector<std::int32_t>& values) {
    add_type(GgufValueType::Array);
    add_type(GgufValueType::I32);
    add(std::uint64_t{values.size()});
    for (const std::int32_t value : values) add(value);
  }

  std::vector<std::byte> bytes_;
};

}  // namespace

GgufWriter::GgufWriter(std::string path, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors)
    : file_(std::move(path)), tensors_(std::move(tensors)) {
  HeaderBuilder header;
  header.add_raw("GGUF");
  header.add(std::uint32_t{3});
  header.add(std::uint64_t{tensors_.size()});
  header.add(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    header.add(std::string_view(key));
    header.add_value(value);
  }
  std::uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors_) {
    const std::uint64_t bytes = size_of(tensor);
    header.add(std::string_view(tensor.name));
    header.add(static_cast<std::uint32_t>(tensor.shape.size()));
    const std::vector<std::uint64_t> sizes(tensor.shape.rbegin(), tensor.shape.rend());
    for (const std::uint64_t size : sizes) header.add(size);
    header.add(ggml_number(tensor.type));
    header.add(offset);
    offset += bytes + padding_after(bytes);
  }
  header.pad();
  file_.write(header.bytes());
  begin_tensor();
}

/// Steps over tensors that have no data.
void GgufWriter::begin_tensor() {
  while (current_ < tensors_.size() && (remaining_ = size_of(tensors_[current_])) == 0) ++current_;
}

void GgufWriter::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (current_ == tensors_.size() || bytes.size() > remaining_) {
    fail("internal error: more data than the GGUF header describes");
  }
  file_.write(bytes);
  remaining_ -= bytes.size();
  if (remaining_ > 0) return;
  constexpr std::byte kZeros[kGgufAlignment] = {};
  file_.write(std::span(kZeros).first(padding_after(file_.size())));
  ++current_;
  begin_tensor();
}

void GgufWriter::commit() {
  if (current_ != tensors_.size()) {
    fail("internal error: the data of {} have not been written", tensors_[current_].name);
  }
  file_.commit();
}

}  // namespace gander
