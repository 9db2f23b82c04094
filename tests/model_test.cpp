#include "engine/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "model/gguf_export.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const Weights& model_weights() {
  static const Weights kWeights = make_synthetic_weights(synthetic_config(), 1);
  return kWeights;
}

/// A folder with a model whose vocabulary has room for 300 tokens, in m.gguf.
class ModelFile : public ::testing::Test {
 protected:
  void write_model(const Tokenizer* tokenizer) {
    export_gguf(path("m.gguf"), model_weights(), tokenizer, store_as(DataType::F32, DataType::F32));
  }
  /// A vocabulary of the 256 bytes and `more`, in a text file.
  void write_vocabulary(const std::string& name, const std::vector<std::string>& more) const {
    std::ofstream file(path(name), std::ios::binary);
    const std::vector<std::string> tokens = byte_tokens(more);
    for (std::size_t id = 1; id < tokens.size(); ++id) {
      if (tokens[id].empty()) continue;
      file << id << " b\"" << escape_token(tokens[id]) << "\" " << tokens[id].size() << '\n';
    }
  }
  std::string path(const std::string& name) const { return folder_.path(name); }
  Model open(const std::string& vocabulary = "") const {
    return open_model(path("m.gguf"), vocabulary);
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(ModelFile, TheGivenVocabularyComesFirst) {
  const Tokenizer inside = byte_tokenizer({"inside"});
  write_model(&inside);
  write_vocabulary("given.txt", {"given"});
  write_vocabulary("vocab.txt", {"beside"});
  EXPECT_EQ(open(path("given.txt")).tokenizer->bytes(257), "given");
  EXPECT_EQ(open().tokenizer->bytes(257), "inside");
}

TEST_F(ModelFile, AVocabularyBesideTheFileComesLast) {
  write_model(nullptr);
  write_vocabulary("vocab.txt", {"second"});
  Model model = open();
  EXPECT_EQ(require_tokenizer(model).bytes(257), "second");
  EXPECT_EQ(model.tokenizer_origin, path("vocab.txt"));
  write_vocabulary("rwkv_vocab_v20230424.txt", {"first"});
  EXPECT_EQ(open().tokenizer->bytes(257), "first");
}

TEST_F(ModelFile, AVocabularyWithMoreTokensThanTheModelIsNotUsed) {
  write_model(nullptr);
  std::vector<std::string> more(300 - 257);
  more.emplace_back("token 300");
  write_vocabulary("vocab.txt", more);
  EXPECT_EQ(open().tokenizer, nullptr);
  EXPECT_THAT([&] { open(path("vocab.txt")); },
              ThrowsMessage<Error>(HasSubstr("it has ids up to 300, the model only 300 tokens")));
  more.erase(more.begin());  // now its last id is 299
  write_vocabulary("vocab.txt", more);
  EXPECT_EQ(open().tokenizer->bytes(299), "token 300");
}

TEST_F(ModelFile, SaysWhatToDoWithoutATokenizer) {
  write_model(nullptr);
  EXPECT_THAT([&] { require_tokenizer(open()); },
              ThrowsMessage<Error>(AllOf(HasSubstr("m.gguf: this checkpoint has no tokenizer"),
                                         HasSubstr("there is no " + path("vocab.txt")),
                                         HasSubstr("rwkv_vocab_v20230424.txt"),
                                         HasSubstr("give --vocab FILE"))));
  std::ofstream(path("vocab.txt")) << "1 'a' 2\n";
  EXPECT_THAT([&] { require_tokenizer(open()); },
              ThrowsMessage<Error>(HasSubstr("vocab.txt does not serve")));
  EXPECT_THROW(open(path("absent.txt")), Error);
}

TEST_F(ModelFile, TheFingerprintIsOfWeightsAndVocabulary) {
  const Tokenizer tokenizer = byte_tokenizer({"ab"});
  write_model(&tokenizer);
  const Model model = open();
  EXPECT_EQ(open().fingerprint, model.fingerprint);
  write_vocabulary("v.txt", {"ab"});
  EXPECT_EQ(open(path("v.txt")).fingerprint, model.fingerprint) << "the same vocabulary";
  write_vocabulary("v.txt", {"ac"});
  EXPECT_NE(open(path("v.txt")).fingerprint, model.fingerprint);

  const std::uint64_t original = fingerprint_of(model_weights(), nullptr);
  const auto expect_change = [&](const char* what, auto change) {
    Weights changed = model_weights();
    change(changed);
    EXPECT_NE(fingerprint_of(changed, nullptr), original) << what;
  };
  expect_change("configuration", [](Weights& w) { w.config.norm_epsilon = 1e-6F; });
  expect_change("a vector", [](Weights& w) { w.layers[3].att.k_a[5] += 1.0F; });
  expect_change("the last LayerNorm", [](Weights& w) { w.ln_out.bias.back() += 1.0F; });
  expect_change("a type", [](Weights& w) {
    w.layers[2].ffn.key.type = DataType::F16;
    w.layers[2].ffn.key.columns *= 2;
  });
  std::vector<std::byte> bytes;
  const auto with_byte = [&](double where) {
    return [&bytes, where](Weights& w) {
      Matrix& matrix = w.layers[4].att.value;
      bytes.assign(matrix.data, matrix.data + matrix.size());
      bytes[static_cast<std::size_t>(where * static_cast<double>(bytes.size() - 1))] ^=
          std::byte{1};
      matrix.data = bytes.data();
    };
  };
  expect_change("the beginning of a matrix", with_byte(0.0));
  expect_change("its middle", with_byte(0.5));
  expect_change("its end", with_byte(1.0));
}

TEST_F(ModelFile, MemoryIsThatOfTheWeightsAndALittle) {
  write_model(nullptr);
  const Model model = open();
  const std::uint64_t file = std::filesystem::file_size(path("m.gguf"));
  EXPECT_GT(required_memory(model), file * 9 / 10);
  EXPECT_LT(required_memory(model), file + (16U << 20));
  check_memory(model);
}

TEST(Memory, ChecksThatAModelFits) {
  // A matrix far beyond any machine; nothing reads it.
  auto huge = std::make_shared<Weights>(model_weights());
  huge->head.rows = 1U << 31;
  huge->head.columns = 1U << 20;
  Model model;
  model.path = "huge";
  model.weights = huge;
  EXPECT_THAT([&] { check_memory(model); },
              ThrowsMessage<Error>(AllOf(HasSubstr("huge: running this model needs 9.0 PB"),
                                         HasSubstr("are available"))));
}

TEST(BuiltinModel, TheEnvironmentNamesAnother) {
  const char* before = std::getenv("GANDER_MODEL");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("GANDER_MODEL", "/some/where.gguf", 1);
  EXPECT_EQ(builtin_model_path(), "/some/where.gguf");
  ::setenv("GANDER_MODEL", "", 1);
  EXPECT_EQ(std::filesystem::path(builtin_model_path()).filename(), "gander-demo-25m.gguf");
  if (before == nullptr) {
    ::unsetenv("GANDER_MODEL");
  } else {
    ::setenv("GANDER_MODEL", kept.c_str(), 1);
  }
}

}  // namespace
}  // namespace gander
