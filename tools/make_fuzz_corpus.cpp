// Writes the seeds of fuzz/corpus for the three checkpoint readers: the smallest models in every
// format and naming, and files that are wrong in one way each.
// usage: make_fuzz_corpus fuzz/corpus
#include <fmt/core.h>

#include <exception>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/checkpoint_files.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

/// Two layers, two heads of 4: a few kilobytes, mostly names.
Config smallest_config() {
  Config config;
  config.vocab_size = 5;
  config.layers = 2;
  config.heads = 2;
  config.head_size = 4;
  config.width = 8;
  config.ffn_width = 12;
  config.rank_w = 2;
  config.rank_a = 3;
  config.rank_v = 1;
  config.rank_g = 4;
  return config;
}

std::vector<std::byte> text_bytes(std::string_view text) {
  return ByteBuilder().text(text).bytes();
}

std::vector<FileTensor> one_tensor(DataType type, std::uint64_t columns) {
  return {{"x", type, {2, columns}, std::vector<std::byte>(2 * row_bytes(type, columns))}};
}

void write_gguf(const std::string& folder, const Weights& weights) {
  GgufFile file;
  file.metadata = gguf_metadata(weights.config);
  file.tensors = gguf_tensors(weights, DataType::F16);
  write_bytes(folder + "/model", gguf_file(file));
  file.version = 2;
  file.alignment = 8;
  std::vector<std::string> tokens = {"<s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("\\x{:02x}", byte));
  tokens.emplace_back("ab");
  tokens.emplace_back("[PAD258]");
  file.metadata.emplace_back("tokenizer.ggml.model", std::string("rwkv"));
  file.metadata.emplace_back("tokenizer.ggml.tokens", tokens);
  write_bytes(folder + "/tokenizer_v2_alignment_8", gguf_file(file));
  for (const DataTypeInfo& type : all_data_types()) {
    const GgufFile single{.metadata = {}, .tensors = one_tensor(type.type, type.block_size)};
    write_bytes(fmt::format("{}/one_{}", folder, type.name), gguf_file(single));
  }
  ByteBuilder nested;
  nested.text("GGUF").add(std::uint32_t{3}).add(std::uint64_t{0}).add(std::uint64_t{1});
  nested.add(std::uint64_t{1}).text("k").add(std::uint32_t{9});
  for (int i = 0; i < 8; ++i) nested.add(std::uint32_t{9}).add(std::uint64_t{1});
  write_bytes(folder + "/nested", nested.bytes());
  ByteBuilder huge;
  huge.text("GGUF").add(std::uint32_t{3}).add(~std::uint64_t{0}).add(~std::uint64_t{0});
  write_bytes(folder + "/huge_counts", huge.bytes());
  GgufFile llama;
  llama.metadata = {{"general.architecture", std::string("llama")}, {"b", true}, {"f", 1.0F}};
  write_bytes(folder + "/llama", gguf_file(llama));
}

void write_safetensors(const std::string& folder, const Weights& weights) {
  write_bytes(folder + "/blinkdl",
              safetensors_file(blinkdl_tensors(weights, DataType::BF16), R"({"format":"pt"})"));
  write_bytes(folder + "/web_rwkv", safetensors_file(web_rwkv_tensors(weights)));
  write_bytes(folder + "/hugging_face",
              safetensors_file(hugging_face_tensors(weights, DataType::F32, false)));
  write_bytes(folder + "/hugging_face_fused",
              safetensors_file(hugging_face_tensors(weights, DataType::F16, true)));
  write_bytes(folder + "/overlap",
              safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                                6));
  write_bytes(folder + "/twice", safetensors_bytes(R"({"a":{},"a":{}})", 0));
  write_bytes(folder + "/deep", safetensors_bytes("{\"a\":" + std::string(64, '['), 0));
}

void write_pth(const std::string& folder, const Weights& weights) {
  const auto tensors = blinkdl_tensors(weights, DataType::BF16);
  write_bytes(folder + "/shared_storage", pth_file(tensors, {.one_storage = true}));
  const auto single = one_tensor(DataType::F32, 3);
  write_bytes(folder + "/plain", pth_file(single));
  write_bytes(folder + "/zip64", pth_file(single, {.zip64 = true, .sizes_follow_data = false}));
  write_bytes(folder + "/protocol_4", pth_file(single, {.protocol = 4}));
  write_bytes(folder + "/outer", pth_file(single, {.outer_state_dict = true}));
  write_bytes(folder + "/module", pth_file(single, {.module_attributes = true}));
  const std::pair<const char*, const char*> pickles[] = {
      {"evil",
       "\x80\x02"
       "cos\nsystem\n(X\x04\x01\x01\x01"
       "echotR."},
      {"cyclic", "\x80\x02}q\x01K\x01h\x01s."},
      {"marks", "\x80\x02((((tttt."},
  };
  for (const auto& [name, pickle] : pickles) {
    write_bytes(folder + "/" + name, zip_file({{"m/data.pkl", text_bytes(pickle)}}));
  }
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  if (count != 2) {
    fmt::print(stderr, "usage: make_fuzz_corpus FOLDER\n");
    return 1;
  }
  try {
    const std::string folder = arguments[1];
    for (const char* const name : {"gguf", "safetensors", "pth"}) {
      std::filesystem::create_directories(folder + "/" + name);
    }
    const auto weights = gander::make_synthetic_weights(gander::smallest_config(), 1);
    gander::write_gguf(folder + "/gguf", weights);
    gander::write_safetensors(folder + "/safetensors", weights);
    gander::write_pth(folder + "/pth", weights);
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_fuzz_corpus: {}\n", error.what());
    return 1;
  }
  return 0;
}
