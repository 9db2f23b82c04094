#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "model/checkpoint/gguf.h"
#include "model/checkpoint/pth.h"
#include "model/checkpoint/safetensors.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// A smaller model than the default, with heads of 32.
Config three_layers() {
  Config config = synthetic_config(32);
  config.layers = 3;
  config.vocab_size = 70;
  config.rank_w = 24;
  config.rank_a = 16;
  config.rank_v = 8;
  config.rank_g = 40;
  return config;
}

/// For tests that load every change of it.
Weights tiny_weights() {
  Config config = three_layers();
  config.heads = 1;
  config.width = config.head_size;
  return make_synthetic_weights(config, 11);
}

Weights small_weights() {
  return make_synthetic_weights(three_layers(), 11);
}

/// A source over tensors in memory; `source.storage` keeps them.
TensorSource source_of(const std::vector<FileTensor>& tensors) {
  auto bytes = std::make_shared<std::vector<std::byte>>(safetensors_file(tensors));
  TensorSource source = parse_safetensors(*bytes, "test");
  source.storage.push_back(std::move(bytes));
  return source;
}

TensorSource gguf_source_of(const GgufFile& file) {
  auto bytes = std::make_shared<std::vector<std::byte>>(gguf_file(file));
  TensorSource source = parse_gguf(*bytes, "test");
  source.storage.push_back(std::move(bytes));
  return source;
}

template <typename Matcher>
void expect_refused(const TensorSource& source, const Matcher& message) {
  EXPECT_THAT([&] { load_weights(source); }, ThrowsMessage<Error>(message));
}

class EveryFormat : public ::testing::Test {
 protected:
  void expect_loads(const std::string& file, const std::vector<std::byte>& bytes,
                    std::string_view naming) {
    const std::string path = folder_.path(file);
    write_bytes(path, bytes);
    // The source is gone before the weights are used: they keep the mapping alive.
    const Weights loaded = load_weights(open_checkpoint(path));
    EXPECT_EQ(difference(weights_, loaded), "") << file;
    EXPECT_EQ(loaded.naming, naming);
  }

  Weights weights_ = make_synthetic_weights(synthetic_config(), 3);
  TemporaryFolder folder_;
};

TEST_F(EveryFormat, Safetensors) {
  expect_loads("a", safetensors_file(blinkdl_tensors(weights_, DataType::F32)), "BlinkDL");
  expect_loads("b", safetensors_file(blinkdl_tensors(weights_, DataType::BF16)), "BlinkDL");
  expect_loads("c", safetensors_file(web_rwkv_tensors(weights_)), "web-rwkv");
  expect_loads("d", safetensors_file(hugging_face_tensors(weights_, DataType::BF16, false)),
               "Hugging Face");
  expect_loads("e", safetensors_file(hugging_face_tensors(weights_, DataType::F16, true)),
               "Hugging Face");
}

TEST_F(EveryFormat, Pth) {
  const auto tensors = blinkdl_tensors(weights_, DataType::BF16);
  expect_loads("a.pth", pth_file(tensors), "BlinkDL");
  expect_loads("b.pth", pth_file(tensors, {.zip64 = true}), "BlinkDL");
  expect_loads("c.pth", pth_file(tensors, {.zip64 = true, .sizes_follow_data = false}), "BlinkDL");
  expect_loads("d.pth", pth_file(tensors, {.protocol = 4, .sizes_follow_data = false}), "BlinkDL");
  expect_loads("e.pth", pth_file(tensors, {.outer_state_dict = true}), "BlinkDL");
  expect_loads("f.pth", pth_file(tensors, {.one_storage = true}), "BlinkDL");
  expect_loads("g.pth", pth_file(tensors, {.module_attributes = true}), "BlinkDL");
  expect_loads("h.pth", pth_file(blinkdl_tensors(weights_, DataType::F16)), "BlinkDL");
  expect_loads("i.pth", pth_file(blinkdl_tensors(weights_, DataType::F32)), "BlinkDL");
}

TEST_F(EveryFormat, Gguf) {
  GgufFile file;
  file.metadata = gguf_metadata(weights_.config);
  file.tensors = gguf_tensors(weights_, DataType::F16);
  expect_loads("a.gguf", gguf_file(file), "GGUF");
  file.version = 2;
  file.alignment = 256;
  expect_loads("b.gguf", gguf_file(file), "GGUF");
  file.tensors = gguf_tensors(weights_, DataType::BF16);
  expect_loads("c.gguf", gguf_file(file), "GGUF");
}

TEST_F(EveryFormat, ShardsByIndexOrFolder) {
  const auto tensors = hugging_face_tensors(weights_, DataType::F32, false);
  const auto middle = tensors.begin() + static_cast<std::ptrdiff_t>(tensors.size() / 2);
  const std::vector<FileTensor> first(tensors.begin(), middle);
  const std::vector<FileTensor> second(middle, tensors.end());
  const std::string name_1 = "model-00001-of-00002.safetensors";
  const std::string name_2 = "model-00002-of-00002.safetensors";
  write_bytes(folder_.path(name_1), safetensors_file(first));
  write_bytes(folder_.path(name_2), safetensors_file(second));
  std::string index = R"({"metadata":{"total_size":1},"weight_map":{)";
  for (const FileTensor& tensor : tensors) {
    index += fmt::format("{}\"{}\":\"{}\"", index.back() == '{' ? "" : ",", tensor.name,
                         &tensor < &*middle ? name_1 : name_2);
  }
  index += "}}";
  const std::string path = folder_.path("model.safetensors.index.json");
  write_bytes(path, std::as_bytes(std::span(index)));
  const std::string config = R"({"model_type":"rwkv7","hidden_size":192,"head_dim":64,
      "intermediate_size":null,"num_hidden_layers":7,"norm_eps":1e-05,"attn":null})";
  write_bytes(folder_.path("config.json"), std::as_bytes(std::span(config)));

  const TensorSource source = open_checkpoint(path);
  EXPECT_EQ(source.format, "safetensors (2 shards)");
  EXPECT_EQ(difference(weights_, load_weights(source)), "");
  EXPECT_EQ(difference(weights_, load_weights(open_checkpoint(folder_.path("")))), "");

  std::filesystem::remove(folder_.path(name_2));
  EXPECT_THAT([&] { open_checkpoint(path); }, ThrowsMessage<Error>(HasSubstr(name_2)));
}

TEST(Weights, LargeMatricesAreViewsAndMayBeUnaligned) {
  const Weights weights = small_weights();
  // One leading byte makes every tensor unaligned.
  const auto file = safetensors_file(blinkdl_tensors(weights, DataType::F32));
  std::vector<std::byte> shifted(file.size() + 1);
  std::ranges::copy(file, shifted.begin() + 1);
  const auto view = std::span<const std::byte>(shifted).subspan(1);
  const Weights loaded = load_weights(parse_safetensors(view, "test"));
  EXPECT_EQ(difference(weights, loaded), "");
  for (const Matrix* matrix : {&loaded.emb, &loaded.head, &loaded.layers[2].ffn.value}) {
    EXPECT_GE(matrix->data, view.data());
    EXPECT_LT(matrix->data, view.data() + view.size());
  }
}

TEST(Weights, BytesPerTokenCountEveryMatrixOnceAndOneRowOfTheEmbedding) {
  Config config = three_layers();
  config.layers = 2;
  const Weights weights = make_synthetic_weights(config, 1, DataType::Q8_0, DataType::F16);
  const std::uint64_t c = config.width;
  const std::uint64_t large =
      2 * (4 * c * c + 2 * c * config.ffn_width) + config.vocab_size * c + c;
  const std::uint64_t ranks = 2 * (config.rank_w + config.rank_a + config.rank_g) + config.rank_v;
  EXPECT_EQ(bytes_per_token(weights), large / 32 * 34 + 2 * c * ranks * 2);
}

TEST(Weights, OneLayerHasNoValueMix) {
  Config config = three_layers();
  config.layers = 1;
  config.rank_v = 0;
  const Weights weights = make_synthetic_weights(config, 1);
  EXPECT_EQ(difference(weights, load_weights(source_of(blinkdl_tensors(weights, DataType::F32)))),
            "");
}

TEST(Weights, DummyValueMixOfLayer0IsIgnored) {
  const Weights weights = small_weights();
  auto tensors = blinkdl_tensors(weights, DataType::F32);
  tensors.push_back({"blocks.0.att.v1", DataType::F32, {1}, std::vector<std::byte>(4)});
  EXPECT_EQ(difference(weights, load_weights(source_of(tensors))), "");
}

TEST(Weights, EveryTensorIsNeeded) {
  const Weights weights = tiny_weights();
  for (const auto& tensors : {blinkdl_tensors(weights, DataType::F32),
                              hugging_face_tensors(weights, DataType::F32, false)}) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto rest = tensors;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      const std::string& name = tensors[i].name;
      if (name == "blocks.0.att.r_k" || name == "model.layers.0.attn.r_k") {
        expect_refused(source_of(rest), HasSubstr("RWKV-7"));
      } else {
        expect_refused(source_of(rest), HasSubstr(name + " is missing"));
      }
    }
  }
  GgufFile file{.metadata = gguf_metadata(weights.config),
                .tensors = gguf_tensors(weights, DataType::F32)};
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    GgufFile rest = file;
    const std::string name = file.tensors[i].name;
    rest.tensors.erase(rest.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    if (name.starts_with("blk.0.time_mix_v") && name.find("value") == std::string::npos) {
      EXPECT_EQ(difference(weights, load_weights(gguf_source_of(rest))), "") << name;
    } else {
      expect_refused(gguf_source_of(rest), HasSubstr(name + " is missing"));
    }
  }
}

TEST(Weights, EveryShapeIsChecked) {
  const Weights weights = tiny_weights();
  for (const auto& tensors : {blinkdl_tensors(weights, DataType::F32), web_rwkv_tensors(weights),
                              hugging_face_tensors(weights, DataType::F32, true)}) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto changed = tensors;
      FileTensor& tensor = changed[i];
      const std::size_t last = tensor.shape.back()++;
      tensor.bytes.resize(tensor.bytes.size() / last * (last + 1));
      EXPECT_THROW(load_weights(source_of(changed)), Error) << tensor.name;
    }
  }
}

TEST(Weights, AWrongShapeIsNamedWithTheExpectedOne) {
  auto tensors = blinkdl_tensors(small_weights(), DataType::F32);
  for (FileTensor& tensor : tensors) {
    if (tensor.name != "blocks.2.att.key.weight") continue;
    tensor.shape = {96, 48};
    tensor.bytes.resize(96 * 48 * 4);
  }
  expect_refused(source_of(tensors),
                 HasSubstr("blocks.2.att.key.weight is [96, 48], expected [96, 96]"));
}

TEST(Weights, MetadataMustAgreeWithTheTensors) {
  const Weights weights = small_weights();
  for (const char* const key :
       {"rwkv7.embedding_length", "rwkv7.block_count", "rwkv7.feed_forward_length"}) {
    GgufFile file{.metadata = gguf_metadata(weights.config),
                  .tensors = gguf_tensors(weights, DataType::F32)};
    for (auto& [name, value] : file.metadata) {
      if (name == key) value = std::uint32_t{5};
    }
    expect_refused(gguf_source_of(file), HasSubstr(key));
  }
  for (const std::uint32_t size : {0U, 31U, 97U}) {
    GgufFile file{.metadata = gguf_metadata(weights.config),
                  .tensors = gguf_tensors(weights, DataType::F32)};
    for (auto& [name, value] : file.metadata) {
      if (name == "rwkv7.wkv.head_size") value = size;
    }
    expect_refused(gguf_source_of(file), HasSubstr("does not divide"));
  }
}

TEST(Weights, EpsilonComesFromTheFile) {
  Weights weights = small_weights();
  weights.config.norm_epsilon = 2e-5F;
  const GgufFile file{.metadata = gguf_metadata(weights.config),
                      .tensors = gguf_tensors(weights, DataType::F32)};
  EXPECT_EQ(load_weights(gguf_source_of(file)).config.norm_epsilon, 2e-5F);
}

TEST(Weights, OtherModelsAreRefusedByName) {
  const auto with = [](std::initializer_list<const char*> names) {
    std::vector<FileTensor> tensors;
    for (const char* name : names) {
      tensors.push_back({name, DataType::F32, {1}, std::vector<std::byte>(4)});
    }
    return source_of(tensors);
  };
  expect_refused(with({"blocks.0.att.time_decay", "blocks.0.att.time_first"}), HasSubstr("RWKV-4"));
  expect_refused(with({"blocks.0.att.time_decay", "blocks.0.att.ln_x.weight"}),
                 HasSubstr("RWKV-5"));
  expect_refused(with({"blocks.0.att.time_decay", "blocks.0.att.time_maa_x"}), HasSubstr("RWKV-6"));
  expect_refused(with({"model.layers.0.self_attn.q_proj.weight"}), HasSubstr("transformer"));
  expect_refused(with({"blocks.0.att.time_state"}), HasSubstr("state file"));
  expect_refused(with({"conv1.weight"}), HasSubstr("conv1.weight"));
  expect_refused(with({}), HasSubstr("no tensors"));

  const std::pair<const char*, const char*> architectures[] = {
      {"rwkv6", "RWKV-6"}, {"rwkv6qwen2", "Qwen2"}, {"arwkv7", "ARWKV-7"}, {"llama", "llama"}};
  for (const auto& [architecture, what] : architectures) {
    const GgufFile file{.metadata = {{"general.architecture", std::string(architecture)}},
                        .tensors = {}};
    expect_refused(gguf_source_of(file), AllOf(HasSubstr(architecture), HasSubstr(what)));
  }
  expect_refused(gguf_source_of({}), HasSubstr("general.architecture is missing"));
}

TEST(Weights, RelativesAreRefusedByTheirExtraTensors) {
  const std::pair<const char*, const char*> relatives[] = {
      {"blocks.0.ffn.s_emb.weight", "DeepEmbed"},
      {"blocks.1.qkv.qq.weight", "DEA"},
      {"blocks.1.rosa.weight", "ROSA"},
      {"blocks.1.att.unknown", "not plain RWKV-7"},
      {"unknown", "not plain RWKV-7"},
  };
  for (const auto& [name, what] : relatives) {
    auto tensors = blinkdl_tensors(small_weights(), DataType::F32);
    tensors.push_back({name, DataType::F32, {1}, std::vector<std::byte>(4)});
    expect_refused(source_of(tensors), AllOf(HasSubstr(name), HasSubstr(what)));
  }
}

TEST(Weights, ALayerNumberThatIsTooLargeIsNoMemoryBomb) {
  auto tensors = blinkdl_tensors(small_weights(), DataType::F32);
  tensors.push_back({"blocks.4000000000.att.w0", DataType::F32, {1}, std::vector<std::byte>(4)});
  expect_refused(source_of(tensors), HasSubstr("blocks.4000000000.att.w0"));
}

TEST(Weights, QuantisedVectorsAreRefused) {
  const Weights weights = small_weights();
  GgufFile file{.metadata = gguf_metadata(weights.config),
                .tensors = gguf_tensors(weights, DataType::F32)};
  for (FileTensor& tensor : file.tensors) {
    if (tensor.name != "blk.1.time_mix_k_k.weight") continue;
    tensor.type = DataType::Q8_0;
    tensor.bytes.resize(96 / 32 * 34);
  }
  expect_refused(gguf_source_of(file), HasSubstr("blk.1.time_mix_k_k.weight is Q8_0"));
}

}  // namespace
}  // namespace gander
