#include "model/checkpoint/pth.h"

#include <array>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"
#include "model/checkpoint/pickle.h"
#include "model/checkpoint/zip.h"

namespace gander {

namespace {

using Entries = std::unordered_map<std::string_view, std::span<const std::byte>>;

/// The folder all entries lie in: what precedes "data.pkl", with its slash.
std::string find_root(const std::vector<ZipEntry>& entries, const std::string& path) {
  constexpr std::string_view kPickle = "/data.pkl";
  for (const ZipEntry& entry : entries) {
    if (entry.name.ends_with(kPickle) &&
        entry.name.find('/') == entry.name.size() - kPickle.size()) {
      return entry.name.substr(0, entry.name.size() - kPickle.size() + 1);
    }
  }
  fail("{}: a zip archive without data.pkl, so not a file of torch.save", path);
}

DataType storage_data_type(const PickledTensor& tensor, const std::string& path) {
  struct Row {
    std::string_view storage;
    DataType type;
  };
  constexpr std::array kRows = {Row{"FloatStorage", DataType::F32},
                                Row{"HalfStorage", DataType::F16},
                                Row{"BFloat16Storage", DataType::BF16}};
  for (const Row& row : kRows) {
    if (tensor.storage_type == row.storage) return row.type;
  }
  fail("{}: {} lies in a {}; only Float, Half and BFloat16 can be read", path, tensor.name,
       tensor.storage_type);
}

/// Whether elements follow each other row after row. The stride of a dimension of one is free.
bool is_contiguous(const PickledTensor& tensor) {
  std::uint64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i > 0; --i) {
    if (tensor.shape[i - 1] != 1 && tensor.stride[i - 1] != expected) return false;
    expected *= tensor.shape[i - 1];
  }
  return true;
}

Tensor locate(const PickledTensor& pickled, const Entries& entries, const std::string& root,
              const std::string& path) {
  Tensor tensor;
  tensor.name = pickled.name;
  tensor.type = storage_data_type(pickled, path);
  tensor.shape = pickled.shape;
  const std::uint64_t item = info(tensor.type).block_bytes;
  const auto size = tensor_bytes(tensor.type, tensor.shape);
  if (!size || pickled.stride.size() != pickled.shape.size()) {
    fail("{}: {} has the impossible shape {} and stride {}", path, tensor.name,
         shape_text(pickled.shape), shape_text(pickled.stride));
  }
  if (*size > 0 && !is_contiguous(pickled)) {
    fail("{}: {} is not contiguous (shape {}, stride {}); call .contiguous() before saving it",
         path, tensor.name, shape_text(pickled.shape), shape_text(pickled.stride));
  }
  const std::string entry = root + "data/" + pickled.storage_key;
  const auto found = entries.find(entry);
  if (found == entries.end()) {
    fail("{}: the data of {}, {}, are missing", path, tensor.name, quote(entry));
  }
  const auto storage = found->second;
  if (pickled.storage_size != storage.size() / item || storage.size() % item != 0) {
    fail("{}: {} has {} bytes, but {} expects {} elements of {} there", path, quote(entry),
         storage.size(), tensor.name, pickled.storage_size, info(tensor.type).name);
  }
  const std::uint64_t count = *size / item;
  if (pickled.offset > pickled.storage_size || count > pickled.storage_size - pickled.offset) {
    fail("{}: {} {} at offset {} reaches beyond its storage of {} elements", path, tensor.name,
         shape_text(tensor.shape), pickled.offset, pickled.storage_size);
  }
  tensor.bytes = storage.subspan(pickled.offset * item, *size);
  return tensor;
}

}  // namespace

bool looks_like_pth(std::span<const std::byte> bytes) {
  return as_text(bytes).starts_with("PK\x03\x04");
}

TensorSource parse_pth(std::span<const std::byte> bytes, const std::string& path) {
  const std::vector<ZipEntry> archive = read_stored_zip(bytes, path);
  const std::string root = find_root(archive, path);
  Entries entries;
  for (const ZipEntry& entry : archive) entries.emplace(entry.name, entry.data);
  const auto order = entries.find(root + "byteorder");
  if (order != entries.end() && as_text(order->second) != "little") {
    fail("{}: its numbers are in {} byte order; only little can be read", path,
         quote(as_text(order->second)));
  }

  TensorSource source;
  source.path = path;
  source.format = "PyTorch .pth";
  std::uint64_t total = 0;
  for (const PickledTensor& pickled : unpickle_tensors(entries.at(root + "data.pkl"), path)) {
    source.tensors.push_back(locate(pickled, entries, root, path));
    // Tensors may share storage (tied matrices), but a small file must not become a huge model.
    total += source.tensors.back().bytes.size();
    if (total / 4 > bytes.size()) {
      fail("{}: its tensors share storage so much that they are more than four times the file",
           path);
    }
  }
  return source;
}

}  // namespace gander
