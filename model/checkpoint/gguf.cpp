#include "model/checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "model/checkpoint/byte_reader.h"
#include "model/checkpoint/gguf_format.h"

namespace gander {

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kMostDimensions = 4;
constexpr int kDeepestArray = 4;
constexpr std::uint64_t kLargestAlignment = 1 << 16;

constexpr std::array kGgmlTypes = {
    GgmlType{0, "F32", DataType::F32},     GgmlType{1, "F16", DataType::F16},
    GgmlType{2, "Q4_0", DataType::Q4_0},   GgmlType{3, "Q4_1", std::nullopt},
    GgmlType{6, "Q5_0", std::nullopt},     GgmlType{7, "Q5_1", std::nullopt},
    GgmlType{8, "Q8_0", DataType::Q8_0},   GgmlType{9, "Q8_1", std::nullopt},
    GgmlType{10, "Q2_K", std::nullopt},    GgmlType{11, "Q3_K", std::nullopt},
    GgmlType{12, "Q4_K", DataType::Q4_K},  GgmlType{13, "Q5_K", DataType::Q5_K},
    GgmlType{14, "Q6_K", DataType::Q6_K},  GgmlType{15, "Q8_K", std::nullopt},
    GgmlType{16, "IQ2_XXS", std::nullopt}, GgmlType{17, "IQ2_XS", std::nullopt},
    GgmlType{18, "IQ3_XXS", std::nullopt}, GgmlType{19, "IQ1_S", std::nullopt},
    GgmlType{20, "IQ4_NL", std::nullopt},  GgmlType{21, "IQ3_S", std::nullopt},
    GgmlType{22, "IQ2_S", std::nullopt},   GgmlType{23, "IQ4_XS", std::nullopt},
    GgmlType{24, "I8", std::nullopt},      GgmlType{25, "I16", std::nullopt},
    GgmlType{26, "I32", std::nullopt},     GgmlType{27, "I64", std::nullopt},
    GgmlType{28, "F64", std::nullopt},     GgmlType{29, "IQ1_M", std::nullopt},
    GgmlType{30, "BF16", DataType::BF16},  GgmlType{34, "TQ1_0", std::nullopt},
    GgmlType{35, "TQ2_0", std::nullopt},   GgmlType{39, "MXFP4", std::nullopt},
};

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const std::string& path)
      : bytes_(bytes), path_(path), reader_(bytes, path) {}

  TensorSource parse();

 private:
  std::string string(std::string_view what);
  std::uint64_t count(std::uint64_t smallest, std::string_view what);
  std::optional<MetadataValue> value(std::uint32_t type, const std::string& key);
  std::optional<MetadataValue> array(const std::string& key, int depth);
  void metadata();
  std::uint64_t alignment() const;
  void check_whole() const;
  Tensor description();
  DataType type(const std::string& name);
  void place(Tensor& tensor, std::uint64_t offset, std::span<const std::byte> data,
             std::uint64_t alignment) const;
  void check_overlap() const;

  std::span<const std::byte> bytes_;
  const std::string& path_;
  ByteReader reader_;
  TensorSource source_;
};

std::string GgufParser::string(std::string_view what) {
  const auto size = reader_.read<std::uint64_t>(what);
  return std::string(as_text(reader_.take(size, what)));
}

/// A count of things of at least `smallest` bytes each, which the rest of the file must hold.
std::uint64_t GgufParser::count(std::uint64_t smallest, std::string_view what) {
  const std::uint64_t offset = reader_.offset();
  const auto count = reader_.read<std::uint64_t>(what);
  if (count > reader_.remaining() / smallest) {
    fail(
        "{}: {} at offset {} is {}, more than the {} bytes left can hold; the file is damaged or "
        "cut short",
        path_, what, offset, count, reader_.remaining());
  }
  return count;
}

std::optional<MetadataValue> GgufParser::value(std::uint32_t type, const std::string& key) {
  switch (static_cast<GgufValueType>(type)) {
    case GgufValueType::U8:
      return std::uint64_t{reader_.read<std::uint8_t>(key)};
    case GgufValueType::I8:
      return std::int64_t{reader_.read<std::int8_t>(key)};
    case GgufValueType::U16:
      return std::uint64_t{reader_.read<std::uint16_t>(key)};
    case GgufValueType::I16:
      return std::int64_t{reader_.read<std::int16_t>(key)};
    case GgufValueType::U32:
      return std::uint64_t{reader_.read<std::uint32_t>(key)};
    case GgufValueType::I32:
      return std::int64_t{reader_.read<std::int32_t>(key)};
    case GgufValueType::F32:
      return double{reader_.read<float>(key)};
    case GgufValueType::Bool: {
      const auto truth = reader_.read<std::uint8_t>(key);
      if (truth > 1) fail("{}: {} is a bool of value {}", path_, key, truth);
      return truth == 1;
    }
    case GgufValueType::String:
      return string(key);
    case GgufValueType::Array:
      return array(key, 1);
    case GgufValueType::U64:
      return reader_.read<std::uint64_t>(key);
    case GgufValueType::I64:
      return reader_.read<std::int64_t>(key);
    case GgufValueType::F64:
      return reader_.read<double>(key);
  }
  fail("{}: {} has the unknown value type {}, at offset {}", path_, key, type, reader_.offset());
}

/// Strings are kept; numbers and arrays of arrays are stepped over.
std::optional<MetadataValue> GgufParser::array(const std::string& key, int depth) {
  const auto type = reader_.read<std::uint32_t>(key);
  std::uint64_t size = 0;
  switch (static_cast<GgufValueType>(type)) {
    case GgufValueType::U8:
    case GgufValueType::I8:
    case GgufValueType::Bool:
      size = 1;
      break;
    case GgufValueType::U16:
    case GgufValueType::I16:
      size = 2;
      break;
    case GgufValueType::U32:
    case GgufValueType::I32:
    case GgufValueType::F32:
      size = 4;
      break;
    case GgufValueType::U64:
    case GgufValueType::I64:
    case GgufValueType::F64:
      size = 8;
      break;
    case GgufValueType::String: {
      std::vector<std::string> strings(count(sizeof(std::uint64_t), key));
      for (std::string& text : strings) text = string(key);
      return strings;
    }
    case GgufValueType::Array: {
      if (depth >= kDeepestArray) {
        fail("{}: {} is an array nested more than {} deep", path_, key, kDeepestArray);
      }
      constexpr std::uint64_t kSmallestArray = 12;  // element type and count
      for (std::uint64_t left = count(kSmallestArray, key); left > 0; --left) array(key, depth + 1);
      return std::nullopt;
    }
    default:
      fail("{}: {} is an array of the unknown value type {}, at offset {}", path_, key, type,
           reader_.offset());
  }
  reader_.take(count(size, key) * size, key);
  return std::nullopt;
}

void GgufParser::metadata() {
  const std::string key = string("a metadata key");
  if (!is_plain_name(key)) fail("{}: {} is not a metadata key", path_, quote(key));
  if (source_.metadata.contains(key)) fail("{}: the key {} occurs twice", path_, key);
  const auto type = reader_.read<std::uint32_t>(key);
  auto parsed = value(type, key);
  if (parsed) source_.metadata.emplace(key, std::move(*parsed));
}

std::uint64_t GgufParser::alignment() const {
  const auto found = source_.metadata.find("general.alignment");
  if (found == source_.metadata.end()) return kGgufAlignment;
  const auto* value = std::get_if<std::uint64_t>(&found->second);
  if (value == nullptr || !std::has_single_bit(*value) || *value > kLargestAlignment) {
    fail("{}: general.alignment is not a power of two up to {}", path_, kLargestAlignment);
  }
  return *value;
}

void GgufParser::check_whole() const {
  const auto found = source_.metadata.find("split.count");
  if (found == source_.metadata.end()) return;
  const auto* value = std::get_if<std::uint64_t>(&found->second);
  if (value != nullptr && *value > 1) {
    fail("{}: one of {} parts of a split model; merge them first (llama-gguf-split --merge)", path_,
         *value);
  }
}

DataType GgufParser::type(const std::string& name) {
  const auto number = reader_.read<std::uint32_t>(name);
  const GgmlType* const found = find_ggml_type(number);
  if (found != nullptr && found->type) return *found->type;
  std::string readable;
  for (const DataTypeInfo& entry : all_data_types()) {
    readable += fmt::format("{}{}", readable.empty() ? "" : ", ", entry.name);
  }
  const auto architecture = source_.metadata.find("general.architecture");
  const auto* const text = architecture == source_.metadata.end()
                               ? nullptr
                               : std::get_if<std::string>(&architecture->second);
  fail(
      "{}: {} has type {}, which gander cannot compute with (it can with {}); the architecture "
      "is {}",
      path_, name, found == nullptr ? fmt::format("number {}", number) : found->name, readable,
      text == nullptr ? "not given" : quote(*text));
}

/// A tensor without its place. GGUF gives the fastest dimension first.
Tensor GgufParser::description() {
  Tensor tensor;
  tensor.name = string("a tensor name");
  const std::string& name = tensor.name;
  if (!is_plain_name(name)) fail("{}: {} is not a tensor name", path_, quote(name));
  const auto dimensions = reader_.read<std::uint32_t>(name);
  if (dimensions == 0 || dimensions > kMostDimensions) {
    fail("{}: {} has {} dimensions; 1 to {} are possible", path_, name, dimensions,
         kMostDimensions);
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    tensor.shape.push_back(reader_.read<std::uint64_t>(name));
  }
  std::ranges::reverse(tensor.shape);
  tensor.type = type(name);
  if (tensor.shape.back() % info(tensor.type).block_size != 0) {
    fail("{}: {} is {} {}, but its rows are no whole number of blocks of {}", path_, name,
         info(tensor.type).name, shape_text(tensor.shape), info(tensor.type).block_size);
  }
  return tensor;
}

void GgufParser::place(Tensor& tensor, std::uint64_t offset, std::span<const std::byte> data,
                       std::uint64_t alignment) const {
  const auto size = tensor_bytes(tensor.type, tensor.shape);
  if (!size || offset > data.size() || *size > data.size() - offset) {
    fail(
        "{}: {} ({} {}) at offset {} does not lie in the {} bytes of tensor data; the file is "
        "damaged or cut short",
        path_, tensor.name, info(tensor.type).name, shape_text(tensor.shape), offset, data.size());
  }
  if (offset % alignment != 0) {
    fail("{}: the offset {} of {} is no multiple of the alignment {}", path_, offset, tensor.name,
         alignment);
  }
  tensor.bytes = data.subspan(offset, *size);
}

void GgufParser::check_overlap() const {
  std::vector<const Tensor*> by_place;
  for (const Tensor& tensor : source_.tensors) {
    if (!tensor.bytes.empty()) by_place.push_back(&tensor);
  }
  std::ranges::sort(by_place, {}, [](const Tensor* tensor) { return tensor->bytes.data(); });
  for (std::size_t i = 1; i < by_place.size(); ++i) {
    const Tensor& before = *by_place[i - 1];
    if (before.bytes.data() + before.bytes.size() > by_place[i]->bytes.data()) {
      fail("{}: the data of {} and {} overlap", path_, before.name, by_place[i]->name);
    }
  }
}

TensorSource GgufParser::parse() {
  reader_.take(kMagic.size(), "the magic");
  const auto version = reader_.read<std::uint32_t>("the version");
  if (version != 2 && version != 3) {
    fail("{}: GGUF version {}{} cannot be read; versions 2 and 3 can", path_, version,
         version > 0xffff ? " (a big-endian file)" : "");
  }
  source_.path = path_;
  source_.format = fmt::format("GGUF v{}", version);
  constexpr std::uint64_t kSmallestTensor =
      8 + 4 + 8 + 4 + 8;                               // name, dimensions, one, type, offset
  constexpr std::uint64_t kSmallestEntry = 8 + 4 + 1;  // key, type, value
  const std::uint64_t tensors = count(kSmallestTensor, "the number of tensors");
  const std::uint64_t entries = count(kSmallestEntry, "the number of metadata entries");
  for (std::uint64_t i = 0; i < entries; ++i) metadata();
  check_whole();
  const std::uint64_t alignment = this->alignment();

  std::vector<std::uint64_t> offsets;
  std::unordered_set<std::string> names;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    source_.tensors.push_back(description());
    offsets.push_back(reader_.read<std::uint64_t>(source_.tensors.back().name));
    if (!names.insert(source_.tensors.back().name).second) {
      fail("{}: {} occurs twice", path_, source_.tensors.back().name);
    }
  }
  // A file that ends with its header needs no padding after it.
  const std::uint64_t start = (reader_.offset() + alignment - 1) / alignment * alignment;
  const auto data = bytes_.subspan(std::min<std::uint64_t>(start, bytes_.size()));
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    place(source_.tensors[i], offsets[i], data, alignment);
  }
  check_overlap();
  return std::move(source_);
}

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t number) {
  const auto found = std::ranges::find(kGgmlTypes, number, &GgmlType::number);
  return found == kGgmlTypes.end() ? nullptr : &*found;
}

std::uint32_t ggml_number(DataType type) {
  return std::ranges::find(kGgmlTypes, std::optional(type), &GgmlType::type)->number;
}

bool looks_like_gguf(std::span<const std::byte> bytes) {
  return as_text(bytes).starts_with(kMagic);
}

TensorSource parse_gguf(std::span<const std::byte> bytes, const std::string& path) {
  return GgufParser(bytes, path).parse();
}

}  // namespace gander
