#include "model/tensor_lookup.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/half.h"
#include "base/mapped_file.h"

namespace gander {

namespace {

template <typename T>
T load(const std::byte* data, std::size_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof(T), sizeof(T));
  return value;
}

/// The values of a float tensor; nothing when it is quantised.
std::optional<std::vector<float>> to_floats(const Tensor& tensor) {
  std::vector<float> values(tensor.element_count());
  const std::byte* const data = tensor.bytes.data();
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (tensor.type) {
      case DataType::F32:
        values[i] = load<float>(data, i);
        break;
      case DataType::F16:
        values[i] = half_to_float(load<std::uint16_t>(data, i));
        break;
      case DataType::BF16:
        values[i] = bfloat16_to_float(load<std::uint16_t>(data, i));
        break;
      default:
        return std::nullopt;
    }
  }
  return values;
}

/// A shape without its leading ones: [1, 1, C] and [C] are the same vector.
std::span<const std::uint64_t> without_leading_ones(std::span<const std::uint64_t> shape) {
  while (shape.size() > 1 && shape.front() == 1) shape = shape.subspan(1);
  return shape;
}

}  // namespace

TensorLookup::TensorLookup(const TensorSource& source)
    : source_(source), naming_(recognise_naming(source)) {
  for (const Tensor& tensor : source.tensors) {
    if (!by_name_.emplace(tensor.name, &tensor).second) {
      fail("{}: {} occurs twice", source.path, tensor.name);
    }
  }
}

const Tensor& TensorLookup::require(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    fail("{}: {} is missing, so the model is not complete", source_.path, name);
  }
  used_.insert(found->first);
  return *found->second;
}

void TensorLookup::fail_shape(const Tensor& tensor, std::string_view expected) const {
  fail("{}: {} is {}, expected {}", source_.path, tensor.name, shape_text(tensor.shape), expected);
}

std::uint32_t TensorLookup::width(const Tensor& tensor, std::size_t dimension) const {
  if (tensor.shape.size() != 2) fail_shape(tensor, "a matrix");
  const std::uint64_t size = tensor.shape[dimension];
  if (size == 0 || size > std::numeric_limits<std::int32_t>::max()) {
    fail("{}: {} is {}, which is no size for a model", source_.path, tensor.name,
         shape_text(tensor.shape));
  }
  return static_cast<std::uint32_t>(size);
}

std::vector<float> TensorLookup::floats(const Tensor& tensor) const {
  auto values = to_floats(tensor);
  if (!values) {
    fail("{}: {} is {}; vectors must be F32, F16 or BF16", source_.path, tensor.name,
         info(tensor.type).name);
  }
  return std::move(*values);
}

std::vector<float> TensorLookup::vector(const std::string& name, std::uint32_t size) {
  const Tensor& tensor = require(name);
  const auto shape = without_leading_ones(tensor.shape);
  if (shape.size() != 1 || shape[0] != size) {
    fail_shape(tensor, fmt::format("[{}]", size));
  }
  return floats(tensor);
}

Matrix TensorLookup::matrix(const std::string& name, std::uint32_t rows, std::uint32_t columns) {
  const Tensor& tensor = require(name);
  if (tensor.shape.size() != 2 || tensor.shape[0] != rows || tensor.shape[1] != columns) {
    fail_shape(tensor, fmt::format("[{}, {}]", rows, columns));
  }
  const DataTypeInfo& type = info(tensor.type);
  if (columns % type.block_size != 0) {
    fail("{}: {} is {} {}, but its rows are no whole number of blocks of {}", source_.path, name,
         type.name, shape_text(tensor.shape), type.block_size);
  }
  return {tensor.type, rows, columns, tensor.bytes.data()};
}

Matrix TensorLookup::low_rank(const std::string& name, std::uint32_t rows, std::uint32_t columns) {
  if (naming_ != Naming::BlinkDL) return matrix(name, rows, columns);
  Matrix stored = matrix(name, columns, rows);
  const DataTypeInfo& type = info(stored.type);
  if (type.block_size != 1) {
    fail("{}: {} is {}, which cannot be transposed", source_.path, name, type.name);
  }
  const std::size_t size = type.block_bytes;
  auto copy = std::make_shared<std::vector<std::byte>>(stored.size());
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t column = 0; column < columns; ++column) {
      std::memcpy(copy->data() + (row * columns + column) * size,
                  stored.data + (column * rows + row) * size, size);
    }
  }
  MappedFile::release({stored.data, stored.size()});  // a large model's are hundreds of megabytes
  const Matrix transposed = {stored.type, rows, columns, copy->data()};
  copies_.push_back(std::move(copy));
  return transposed;
}

std::uint32_t TensorLookup::rank(std::uint32_t layer, std::string_view part) {
  return width(require(layer_name(layer, part)), naming_ == Naming::BlinkDL ? 1 : 0);
}

std::uint32_t TensorLookup::count_layers() const {
  const std::string_view prefix = layer_prefix(naming_);
  std::uint32_t layers = 0;
  for (const auto& [name, tensor] : by_name_) {
    if (!name.starts_with(prefix)) continue;
    const std::string_view rest = name.substr(prefix.size());
    std::uint32_t layer = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    if (error != std::errc() || end == rest.data() + rest.size() || *end != '.' ||
        layer >= by_name_.size()) {
      fail_foreign_tensor(source_, name);
    }
    layers = std::max(layers, layer + 1);
  }
  return layers;
}

void TensorLookup::check_all_used() const {
  std::unordered_set<std::string> idle;
  for (const std::string_view part : {"att.v0", "att.v1", "att.v2"}) {
    idle.insert(layer_name(0, part));
  }
  for (const Tensor& tensor : source_.tensors) {
    if (!used_.contains(tensor.name) && !idle.contains(tensor.name)) {
      fail_foreign_tensor(source_, tensor.name);
    }
  }
}

std::vector<std::shared_ptr<const void>> TensorLookup::storage() const {
  auto storage = source_.storage;
  storage.insert(storage.end(), copies_.begin(), copies_.end());
  return storage;
}

}  // namespace gander
