#include "model/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/checkpoint/byte_reader.h"

namespace gander {

namespace {

using nlohmann::json;

constexpr std::uint64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr int kDeepestHeader = 3;                      // {"name": {"shape": [
constexpr int kDeepestOther = 32;                      // config.json and indexes

/// Parses a JSON object, and refuses what the library would let pass: a key that occurs twice in
/// an object, and nesting deeper than `deepest`.
json parse_object(std::string_view text, int deepest, const std::string& path) {
  std::vector<std::set<std::string>> keys(static_cast<std::size_t>(deepest) + 1);
  const auto check = [&](int depth, json::parse_event_t event, const json& parsed) {
    const auto level = static_cast<std::size_t>(depth);
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= deepest) fail("{}: its JSON is nested more than {} deep", path, deepest);
        keys[level + 1].clear();
        break;
      case json::parse_event_t::key:
        if (!keys[level].insert(parsed.get<std::string>()).second) {
          fail("{}: the key {} occurs twice in its JSON", path, quote(parsed.get<std::string>()));
        }
        break;
      default:
        break;
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text.begin(), text.end(), check);
  } catch (const json::parse_error& error) {
    fail("{}: its JSON is malformed at byte {}", path, error.byte);
  } catch (const json::out_of_range&) {
    fail("{}: its JSON holds a number that is out of range", path);
  }
  if (!object.is_object()) fail("{}: its JSON is not an object", path);
  return object;
}

DataType parse_type(const json& entry, const std::string& name, const std::string& path) {
  constexpr std::array kReadable = {DataType::F32, DataType::F16, DataType::BF16};
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) fail("{}: {} has no dtype", path, name);
  const auto& text = dtype->get_ref<const std::string&>();
  for (const DataType type : kReadable) {
    if (text == info(type).name) return type;
  }
  fail("{}: {} holds {} numbers; only F32, F16 and BF16 can be read from safetensors", path, name,
       quote(text));
}

std::vector<std::uint64_t> parse_numbers(const json& entry, const char* key,
                                         const std::string& name, const std::string& path) {
  const auto numbers = entry.find(key);
  if (numbers == entry.end() || !numbers->is_array() ||
      !std::ranges::all_of(*numbers, [](const json& x) { return x.is_number_unsigned(); })) {
    fail("{}: {} of {} is not an array of whole numbers", path, key, name);
  }
  return numbers->get<std::vector<std::uint64_t>>();
}

Tensor parse_tensor(const json& entry, const std::string& name, std::span<const std::byte> data,
                    const std::string& path) {
  if (!is_plain_name(name)) fail("{}: {} is not a tensor name", path, quote(name));
  if (!entry.is_object()) fail("{}: the entry of {} is not an object", path, name);
  Tensor tensor;
  tensor.name = name;
  tensor.type = parse_type(entry, name, path);
  tensor.shape = parse_numbers(entry, "shape", name, path);
  const auto offsets = parse_numbers(entry, "data_offsets", name, path);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size()) {
    fail("{}: data_offsets {} of {} do not lie in the {} bytes of data; the file may be cut short",
         path, shape_text(offsets), name, data.size());
  }
  const std::uint64_t size = offsets[1] - offsets[0];
  if (tensor_bytes(tensor.type, tensor.shape) != size) {
    fail("{}: {} is {} {}, but its data_offsets span {} bytes", path, name, info(tensor.type).name,
         shape_text(tensor.shape), size);
  }
  tensor.bytes = data.subspan(offsets[0], size);
  return tensor;
}

/// Brings the tensors into file order and checks that their data tile the whole data section.
void check_tiling(std::vector<Tensor>& tensors, std::span<const std::byte> data,
                  const std::string& path) {
  std::ranges::sort(tensors, [](const Tensor& a, const Tensor& b) {
    return std::tuple(a.bytes.data(), a.bytes.size(), std::string_view(a.name)) <
           std::tuple(b.bytes.data(), b.bytes.size(), std::string_view(b.name));
  });
  std::size_t end = 0;
  for (const Tensor& tensor : tensors) {
    const auto begin = static_cast<std::size_t>(tensor.bytes.data() - data.data());
    if (begin != end) {
      fail("{}: the data of {} {} at offset {} of the data section", path, tensor.name,
           begin < end ? "overlap those of another tensor" : "leave a gap before them", begin);
    }
    end += tensor.bytes.size();
  }
  if (end != data.size()) {
    fail("{}: {} bytes follow the data of the last tensor", path, data.size() - end);
  }
}

}  // namespace

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  return bytes.size() > 8 && bytes[8] == std::byte{'{'};
}

TensorSource parse_safetensors(std::span<const std::byte> bytes, const std::string& path) {
  ByteReader reader(bytes, path);
  const auto header_size = reader.read<std::uint64_t>("the header length");
  if (header_size > kLargestHeader) {
    fail("{}: a header of {} bytes is more than safetensors allows", path, header_size);
  }
  const std::string_view header = as_text(reader.take(header_size, "the header"));
  if (!header.starts_with('{')) fail("{}: the header is not a JSON object", path);
  const auto data = bytes.subspan(reader.offset());

  TensorSource source;
  source.path = path;
  source.format = "safetensors";
  const json object = parse_object(header, kDeepestHeader, path);
  for (const auto& [name, entry] : object.items()) {
    if (name != "__metadata__") {
      source.tensors.push_back(parse_tensor(entry, name, data, path));
      continue;
    }
    if (!entry.is_object()) fail("{}: __metadata__ is not an object", path);
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("{}: __metadata__ has a value that is no string", path);
      source.metadata.emplace(key, value.get<std::string>());
    }
  }
  check_tiling(source.tensors, data, path);
  return source;
}

TensorSource open_safetensors_shards(const std::string& index_path) {
  const MappedFile index(index_path);
  const json object = parse_object(as_text(index.bytes()), kDeepestOther, index_path);
  const auto map = object.find("weight_map");
  if (map == object.end() || !map->is_object() || map->empty()) {
    fail("{}: has no weight_map, so it is not the index of a sharded safetensors model",
         index_path);
  }
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    // A shard lies beside its index: a name with a folder in it could lead anywhere.
    if (!shard.is_string() || !is_plain_name(shard.get_ref<const std::string&>()) ||
        shard.get_ref<const std::string&>().find('/') != std::string::npos) {
      fail("{}: the shard of {} is not a file name", index_path, quote(name));
    }
    shards.insert(shard.get<std::string>());
  }

  const std::filesystem::path folder = std::filesystem::path(index_path).parent_path();
  TensorSource source;
  source.path = index_path;
  source.format = fmt::format("safetensors ({} shards)", shards.size());
  std::set<std::string> names;
  for (const std::string& shard : shards) {
    const std::string path = (folder / shard).string();
    auto file = std::make_shared<const MappedFile>(path);
    TensorSource part = parse_safetensors(file->bytes(), path);
    for (Tensor& tensor : part.tensors) {
      const auto entry = map->find(tensor.name);
      if (entry == map->end() || *entry != shard) {
        fail("{}: holds {}, which the index does not place there", path, tensor.name);
      }
      names.insert(tensor.name);
      source.tensors.push_back(std::move(tensor));
    }
    source.metadata.merge(part.metadata);
    source.storage.push_back(std::move(file));
  }
  for (const auto& [name, shard] : map->items()) {
    if (!names.contains(name)) {
      fail("{}: {} is not in {}, where the index places it", index_path, quote(name),
           shard.get_ref<const std::string&>());
    }
  }
  return source;
}

void add_hugging_face_config(TensorSource& source, const std::string& folder) {
  const auto path = (std::filesystem::path(folder) / "config.json").string();
  if (!std::filesystem::exists(path)) return;
  if (std::ranges::none_of(source.tensors,
                           [](const Tensor& x) { return x.name.starts_with("model."); })) {
    return;
  }
  const MappedFile file(path);
  const json object = parse_object(as_text(file.bytes()), kDeepestOther, path);
  for (const auto& [key, value] : object.items()) {
    const std::string name = "config.json/" + key;
    if (value.is_boolean()) source.metadata[name] = value.get<bool>();
    if (value.is_number_unsigned()) {
      source.metadata[name] = value.get<std::uint64_t>();
    } else if (value.is_number()) {
      source.metadata[name] = value.get<double>();
    }
    if (value.is_string()) source.metadata[name] = value.get<std::string>();
  }
}

}  // namespace gander
