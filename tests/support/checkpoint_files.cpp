#include "tests/support/checkpoint_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>

#include "tests/support/synthetic_model.h"

namespace gander {

ByteBuilder& ByteBuilder::add(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

ByteBuilder& ByteBuilder::zeros(std::size_t count) {
  bytes_.resize(bytes_.size() + count);
  return *this;
}

std::vector<std::byte> safetensors_file(const std::vector<FileTensor>& tensors,
                                        const std::string& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += fmt::format("\"__metadata__\":{}", metadata);
  std::size_t offset = 0;
  for (const FileTensor& tensor : tensors) {
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", tensor.name, info(tensor.type).name,
                          fmt::join(tensor.shape, ","), offset, offset + tensor.bytes.size());
    offset += tensor.bytes.size();
  }
  header += "}";
  ByteBuilder builder;
  builder.add(std::uint64_t{header.size()}).text(header);
  for (const FileTensor& tensor : tensors) builder.add(tensor.bytes);
  return builder.bytes();
}

std::vector<std::byte> safetensors_bytes(std::string_view header, std::size_t data_size) {
  return ByteBuilder().add(std::uint64_t{header.size()}).text(header).zeros(data_size).bytes();
}

std::vector<std::pair<std::string, FileValue>> gguf_metadata(const Config& config) {
  return {
      {"general.architecture", std::string("rwkv7")},
      {"general.name", std::string("synthetic")},
      {"rwkv7.context_length", std::uint32_t{1048576}},
      {"rwkv7.embedding_length", config.width},
      {"rwkv7.block_count", config.layers},
      {"rwkv7.attention.layer_norm_epsilon", config.norm_epsilon},
      {"rwkv7.wkv.head_size", config.head_size},
      {"rwkv7.attention.decay_lora_rank", config.rank_w},
      {"rwkv7.attention.iclr_lora_rank", config.rank_a},
      {"rwkv7.attention.value_residual_mix_lora_rank", config.rank_v},
      {"rwkv7.attention.gate_lora_rank", config.rank_g},
      {"rwkv7.feed_forward_length", config.ffn_width},
      {"rwkv7.attention.head_count", std::uint32_t{0}},
      {"general.file_type", std::uint32_t{1}},
  };
}

namespace {

void add_gguf_string(ByteBuilder& builder, std::string_view text) {
  builder.add(std::uint64_t{text.size()}).text(text);
}

void add_gguf_value(ByteBuilder& builder, const FileValue& value) {
  if (const auto* truth = std::get_if<bool>(&value)) {
    builder.add(std::uint32_t{7}).add(static_cast<std::uint8_t>(*truth));
  } else if (const auto* number = std::get_if<std::uint32_t>(&value)) {
    builder.add(std::uint32_t{4}).add(*number);
  } else if (const auto* real = std::get_if<float>(&value)) {
    builder.add(std::uint32_t{6}).add(*real);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    builder.add(std::uint32_t{8});
    add_gguf_string(builder, *text);
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    builder.add(std::uint32_t{9}).add(std::uint32_t{8}).add(std::uint64_t{texts->size()});
    for (const std::string& entry : *texts) add_gguf_string(builder, entry);
  }
}

std::uint32_t gguf_type(DataType type) {
  switch (type) {
    case DataType::F32:
      return 0;
    case DataType::F16:
      return 1;
    case DataType::Q4_0:
      return 2;
    case DataType::Q8_0:
      return 8;
    case DataType::Q4_K:
      return 12;
    case DataType::Q5_K:
      return 13;
    case DataType::Q6_K:
      return 14;
    case DataType::BF16:
      return 30;
  }
  return ~0U;
}

}  // namespace

std::vector<std::byte> gguf_file(const GgufFile& file) {
  auto metadata = file.metadata;
  if (file.alignment != 32) metadata.emplace_back("general.alignment", file.alignment);
  ByteBuilder builder;
  builder.text("GGUF").add(file.version);
  builder.add(std::uint64_t{file.tensors.size()}).add(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    add_gguf_string(builder, key);
    add_gguf_value(builder, value);
  }
  const auto padded = [&](std::size_t size) {
    return (size + file.alignment - 1) / file.alignment * file.alignment;
  };
  std::uint64_t offset = 0;
  for (const FileTensor& tensor : file.tensors) {
    add_gguf_string(builder, tensor.name);
    builder.add(static_cast<std::uint32_t>(tensor.shape.size()));
    const std::vector<std::uint64_t> sizes(tensor.shape.rbegin(), tensor.shape.rend());
    for (const std::uint64_t size : sizes) builder.add(size);
    builder.add(gguf_type(tensor.type)).add(offset);
    offset += padded(tensor.bytes.size());
  }
  builder.zeros(padded(builder.size()) - builder.size());
  for (const FileTensor& tensor : file.tensors) {
    builder.add(tensor.bytes).zeros(padded(tensor.bytes.size()) - tensor.bytes.size());
  }
  return builder.bytes();
}

namespace {

/// Writes the pickles that torch.save writes.
class Pickler {
 public:
  explicit Pickler(int protocol) : protocol_(protocol) {
    byte(0x80).byte(static_cast<std::uint8_t>(protocol));
    if (protocol >= 4) {
      constexpr std::uint64_t kFrame = 64;  // a hint to readers; its value changes nothing
      byte(0x95);
      builder_.add(kFrame);
    }
  }

  Pickler& byte(std::uint8_t value) {
    builder_.add(value);
    return *this;
  }
  Pickler& opcode(char value) { return byte(static_cast<std::uint8_t>(value)); }
  Pickler& text(std::string_view text) {
    if (protocol_ >= 4) {
      byte(0x8c).byte(static_cast<std::uint8_t>(text.size()));
    } else {
      opcode('X');
      builder_.add(static_cast<std::uint32_t>(text.size()));
    }
    builder_.text(text);
    return memoize();
  }
  Pickler& number(std::uint64_t value) {
    if (value < 0x100) return opcode('K').byte(static_cast<std::uint8_t>(value));
    if (value < 0x10000) {
      opcode('M');
      builder_.add(static_cast<std::uint16_t>(value));
      return *this;
    }
    if (value < 0x80000000) {
      opcode('J');
      builder_.add(static_cast<std::int32_t>(value));
      return *this;
    }
    byte(0x8a).byte(8);
    builder_.add(value);
    return *this;
  }
  /// The first time the global itself, then its memo entry.
  Pickler& global(const std::string& module, const std::string& name) {
    const auto found = globals_.find(module + "." + name);
    if (found != globals_.end()) return get(found->second);
    if (protocol_ >= 4) {
      text(module).text(name).byte(0x93);
    } else {
      opcode('c');
      builder_.text(module + "\n" + name + "\n");
    }
    globals_[module + "." + name] = memo_;
    return memoize();
  }
  Pickler& ordered_dict() {
    return global("collections", "OrderedDict").opcode(')').opcode('R').memoize();
  }
  Pickler& tuple(const std::vector<std::uint64_t>& values) {
    if (values.empty()) return opcode(')');
    if (values.size() > 3) opcode('(');
    for (const std::uint64_t value : values) number(value);
    if (values.size() > 3) return opcode('t').memoize();
    return byte(static_cast<std::uint8_t>(0x84 + values.size())).memoize();
  }
  Pickler& memoize() {
    if (protocol_ >= 4) {
      byte(0x94);
    } else if (memo_ < 256) {
      opcode('q').byte(static_cast<std::uint8_t>(memo_));
    } else {
      opcode('r');
      builder_.add(memo_);
    }
    ++memo_;
    return *this;
  }

  const std::vector<std::byte>& bytes() const { return builder_.bytes(); }

 private:
  Pickler& get(std::uint32_t index) {
    if (index < 256) return opcode('h').byte(static_cast<std::uint8_t>(index));
    opcode('j');
    builder_.add(index);
    return *this;
  }

  int protocol_;
  std::uint32_t memo_ = 0;
  std::map<std::string, std::uint32_t> globals_;
  ByteBuilder builder_;
};

const char* storage_class(DataType type) {
  if (type == DataType::F16) return "HalfStorage";
  return type == DataType::BF16 ? "BFloat16Storage" : "FloatStorage";
}

}  // namespace

std::vector<std::byte> pth_file(const std::vector<FileTensor>& tensors, const PthOptions& options) {
  std::vector<std::pair<std::string, std::vector<std::byte>>> storages;
  std::map<std::string, std::size_t> shared;  // storage class: index of its storage
  if (options.one_storage) {
    for (const FileTensor& tensor : tensors) {
      const auto [entry, is_new] = shared.try_emplace(storage_class(tensor.type), storages.size());
      if (is_new) storages.emplace_back();
      auto& bytes = storages[entry->second].second;
      bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
  }

  Pickler pickler(options.protocol);
  if (options.outer_state_dict) {
    pickler.opcode('}').memoize().opcode('(').text("epoch").number(3).text("state_dict");
  }
  if (options.module_attributes) {
    pickler.ordered_dict();
  } else {
    pickler.opcode('}').memoize();
  }
  pickler.opcode('(');
  std::map<std::size_t, std::uint64_t> used;  // elements of a shared storage
  for (const FileTensor& tensor : tensors) {
    const std::uint64_t count = tensor.bytes.size() / info(tensor.type).block_bytes;
    std::size_t storage = storages.size();
    std::uint64_t offset = 0;
    std::uint64_t storage_count = count;
    if (options.one_storage) {
      storage = shared.at(storage_class(tensor.type));
      offset = used[storage];
      used[storage] += count;
      storage_count = storages[storage].second.size() / info(tensor.type).block_bytes;
    } else {
      storages.emplace_back("", tensor.bytes);
    }
    std::vector<std::uint64_t> stride(tensor.shape.size());
    std::uint64_t step = 1;
    for (std::size_t i = stride.size(); i > 0; --i) {
      stride[i - 1] = step;
      step *= tensor.shape[i - 1];
    }
    pickler.text(tensor.name).global("torch._utils", "_rebuild_tensor_v2").opcode('(');
    pickler.opcode('(').text("storage").global("torch", storage_class(tensor.type));
    pickler.text(fmt::to_string(storage)).text("cpu").number(storage_count);
    pickler.opcode('t').memoize().opcode('Q');
    pickler.number(offset).tuple(tensor.shape).tuple(stride).byte(0x89).ordered_dict();
    pickler.opcode('t').memoize().opcode('R').memoize();
  }
  pickler.opcode('u');
  if (options.module_attributes) {
    pickler.opcode('}').memoize().text("_metadata").ordered_dict().text("").opcode('}').memoize();
    pickler.text("version").number(1).opcode('s').opcode('s').opcode('s').opcode('b');
  }
  if (options.outer_state_dict) pickler.opcode('u');
  pickler.opcode('.');

  const auto text = [](std::string_view content) { return ByteBuilder().text(content).bytes(); };
  std::vector<std::pair<std::string, std::vector<std::byte>>> entries;
  entries.emplace_back("model/data.pkl", pickler.bytes());
  entries.emplace_back("model/byteorder", text("little"));
  for (std::size_t i = 0; i < storages.size(); ++i) {
    entries.emplace_back(fmt::format("model/data/{}", i), std::move(storages[i].second));
  }
  entries.emplace_back("model/version", text("3\n"));
  entries.emplace_back("model/.data/serialization_id", text("1234567890"));
  return zip_file(entries, options);
}

std::vector<std::byte> zip_file(
    const std::vector<std::pair<std::string, std::vector<std::byte>>>& entries,
    const PthOptions& options) {
  constexpr std::uint32_t kNone = 0xffffffff;
  const std::uint16_t flags = options.sizes_follow_data ? 0x0808 : 0x0800;
  ByteBuilder file;
  ByteBuilder directory;
  for (const auto& [name, bytes] : entries) {
    const std::uint64_t offset = file.size();
    const auto size = static_cast<std::uint32_t>(bytes.size());
    const std::uint32_t local_size = options.sizes_follow_data ? 0 : options.zip64 ? kNone : size;
    const std::size_t zip64_field = options.zip64 && !options.sizes_follow_data ? 20 : 0;
    // PyTorch pads with an extra field "FB", so that data begin at a multiple of 64.
    const std::size_t unpadded = offset + 30 + name.size() + zip64_field + 4;
    const std::size_t padding = (64 - unpadded % 64) % 64;
    file.text("PK\x03\x04").add(std::uint16_t{0}).add(flags).add(std::uint16_t{0});
    file.zeros(4 + 4).add(local_size).add(local_size);
    file.add(static_cast<std::uint16_t>(name.size()));
    file.add(static_cast<std::uint16_t>(zip64_field + 4 + padding)).text(name);
    if (zip64_field > 0) {
      file.add(std::uint16_t{1}).add(std::uint16_t{16});
      file.add(std::uint64_t{size}).add(std::uint64_t{size});
    }
    file.text("FB").add(static_cast<std::uint16_t>(padding)).zeros(padding);
    file.add(bytes);
    if (options.sizes_follow_data) {
      file.text("PK\x07\x08").zeros(4);
      if (options.zip64) {
        file.add(std::uint64_t{size}).add(std::uint64_t{size});
      } else {
        file.add(size).add(size);
      }
    }
    directory.text("PK\x01\x02").zeros(4).add(flags).add(std::uint16_t{0}).zeros(4 + 4);
    directory.add(options.zip64 ? kNone : size).add(options.zip64 ? kNone : size);
    directory.add(static_cast<std::uint16_t>(name.size()));
    directory.add(static_cast<std::uint16_t>(options.zip64 ? 28 : 0)).zeros(2 + 2 + 2 + 4);
    directory.add(options.zip64 ? kNone : static_cast<std::uint32_t>(offset)).text(name);
    if (options.zip64) {
      directory.add(std::uint16_t{1}).add(std::uint16_t{24});
      directory.add(std::uint64_t{size}).add(std::uint64_t{size}).add(offset);
    }
  }
  const std::uint64_t start = file.size();
  file.add(directory.bytes());
  const std::uint64_t count = entries.size();
  if (options.zip64) {
    const std::uint64_t end = file.size();
    file.text("PK\x06\x06").add(std::uint64_t{44}).zeros(2 + 2 + 4 + 4);
    file.add(count).add(count).add(std::uint64_t{directory.size()}).add(start);
    file.text("PK\x06\x07").zeros(4).add(end).add(std::uint32_t{1});
  }
  file.text("PK\x05\x06").zeros(4);
  const auto count16 = options.zip64 ? std::uint16_t{0xffff} : static_cast<std::uint16_t>(count);
  file.add(count16).add(count16);
  file.add(options.zip64 ? kNone : static_cast<std::uint32_t>(directory.size()));
  file.add(options.zip64 ? kNone : static_cast<std::uint32_t>(start)).zeros(2);
  return file.bytes();
}

void write_bytes(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

namespace {

void compare(std::string& report, const std::string& what, const std::vector<float>& a,
             const std::vector<float>& b) {
  if (a != b) report += what + " ";
}

void compare(std::string& report, const std::string& what, const LayerNormWeights& a,
             const LayerNormWeights& b) {
  compare(report, what + ".weight", a.weight, b.weight);
  compare(report, what + ".bias", a.bias, b.bias);
}

void compare(std::string& report, const std::string& what, const Matrix& a, const Matrix& b) {
  if (a.rows != b.rows || a.columns != b.columns || dequantized(a) != dequantized(b)) {
    report += what + " ";
  }
}

void compare(std::string& report, const std::string& what, const LayerWeights& a,
             const LayerWeights& b) {
  compare(report, what + "ln1", a.ln1, b.ln1);
  compare(report, what + "ln2", a.ln2, b.ln2);
  constexpr std::pair<const char*, std::vector<float> TimeMixWeights::*> kVectors[] = {
      {"x_r", &TimeMixWeights::x_r}, {"x_w", &TimeMixWeights::x_w}, {"x_k", &TimeMixWeights::x_k},
      {"x_v", &TimeMixWeights::x_v}, {"x_a", &TimeMixWeights::x_a}, {"x_g", &TimeMixWeights::x_g},
      {"w0", &TimeMixWeights::w0},   {"a0", &TimeMixWeights::a0},   {"v0", &TimeMixWeights::v0},
      {"k_k", &TimeMixWeights::k_k}, {"k_a", &TimeMixWeights::k_a}, {"r_k", &TimeMixWeights::r_k}};
  for (const auto& [name, member] : kVectors) {
    compare(report, what + name, a.att.*member, b.att.*member);
  }
  constexpr std::pair<const char*, Matrix TimeMixWeights::*> kMatrices[] = {
      {"w1", &TimeMixWeights::w1},
      {"w2", &TimeMixWeights::w2},
      {"a1", &TimeMixWeights::a1},
      {"a2", &TimeMixWeights::a2},
      {"v1", &TimeMixWeights::v1},
      {"v2", &TimeMixWeights::v2},
      {"g1", &TimeMixWeights::g1},
      {"g2", &TimeMixWeights::g2},
      {"receptance", &TimeMixWeights::receptance},
      {"key", &TimeMixWeights::key},
      {"value", &TimeMixWeights::value},
      {"output", &TimeMixWeights::output}};
  for (const auto& [name, member] : kMatrices) {
    compare(report, what + name, a.att.*member, b.att.*member);
  }
  compare(report, what + "ln_x", a.att.ln_x, b.att.ln_x);
  compare(report, what + "ffn.x_k", a.ffn.x_k, b.ffn.x_k);
  compare(report, what + "ffn.key", a.ffn.key, b.ffn.key);
  compare(report, what + "ffn.value", a.ffn.value, b.ffn.value);
}

}  // namespace

std::string difference(const Weights& a, const Weights& b) {
  std::string report;
  if (!(a.config == b.config) || a.layers.size() != b.layers.size()) return "config";
  compare(report, "emb", a.emb, b.emb);
  compare(report, "ln0", a.ln0, b.ln0);
  for (std::size_t i = 0; i < a.layers.size(); ++i) {
    compare(report, fmt::format("layer {} ", i), a.layers[i], b.layers[i]);
  }
  compare(report, "ln_out", a.ln_out, b.ln_out);
  compare(report, "head", a.head, b.head);
  return report;
}

}  // namespace gander
