#include "model/checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/checkpoint/gguf_writer.h"
#include "model/gguf_export.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

template <typename Matcher>
void expect_refused(const std::vector<std::byte>& bytes, const Matcher& message) {
  EXPECT_THAT([&] { parse_gguf(bytes, "test"); }, ThrowsMessage<Error>(message));
}

/// Puts files together that gguf_file() cannot make: wrong ones.
class RawGguf {
 public:
  explicit RawGguf(std::uint64_t tensors, std::uint64_t entries, std::uint32_t version = 3) {
    builder_.text("GGUF").add(version).add(tensors).add(entries);
  }
  RawGguf& string(std::string_view text) {
    builder_.add(std::uint64_t{text.size()}).text(text);
    return *this;
  }
  template <typename T>
  RawGguf& add(T value) {
    builder_.add(value);
    return *this;
  }
  RawGguf& key(std::string_view name, std::uint32_t type) { return string(name).add(type); }
  RawGguf& tensor(std::string_view name, const std::vector<std::uint64_t>& sizes,
                  std::uint32_t type, std::uint64_t offset) {
    string(name).add(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) add(size);
    return add(type).add(offset);
  }
  /// Ends the header and adds tensor data.
  std::vector<std::byte> data(std::size_t size) {
    builder_.zeros((32 - builder_.size() % 32) % 32 + size);
    return builder_.bytes();
  }
  const std::vector<std::byte>& bytes() const { return builder_.bytes(); }

 private:
  ByteBuilder builder_;
};

constexpr std::uint32_t kF32 = 0, kQ8_0 = 8;

TEST(Gguf, EveryKindOfMetadata) {
  RawGguf file(0, 16);
  file.key("u8", 0).add(std::uint8_t{200});
  file.key("i8", 1).add(std::int8_t{-100});
  file.key("u16", 2).add(std::uint16_t{60000});
  file.key("i16", 3).add(std::int16_t{-30000});
  file.key("u32", 4).add(std::uint32_t{4000000000});
  file.key("i32", 5).add(std::int32_t{-2000000000});
  file.key("f32", 6).add(0.5F);
  file.key("bool", 7).add(std::uint8_t{1});
  file.key("string", 8).string(std::string_view("a\0b", 3));
  file.key("strings", 9).add(std::uint32_t{8}).add(std::uint64_t{2}).string("x").string("");
  file.key("numbers", 9).add(std::uint32_t{2}).add(std::uint64_t{2}).add(7U);
  file.key("nested", 9).add(std::uint32_t{9}).add(std::uint64_t{2});
  file.add(std::uint32_t{0}).add(std::uint64_t{1}).add(std::uint8_t{9});
  file.add(std::uint32_t{8}).add(std::uint64_t{1}).string("inner");
  file.key("u64", 10).add(~std::uint64_t{0});
  file.key("i64", 11).add(std::int64_t{-5});
  file.key("f64", 12).add(0.25);
  file.key("last", 8).string("end");
  const TensorSource source = parse_gguf(file.bytes(), "test");
  const auto& metadata = source.metadata;
  EXPECT_EQ(source.format, "GGUF v3");
  EXPECT_EQ(metadata.at("u8"), MetadataValue(std::uint64_t{200}));
  EXPECT_EQ(metadata.at("i8"), MetadataValue(std::int64_t{-100}));
  EXPECT_EQ(metadata.at("u16"), MetadataValue(std::uint64_t{60000}));
  EXPECT_EQ(metadata.at("i16"), MetadataValue(std::int64_t{-30000}));
  EXPECT_EQ(metadata.at("u32"), MetadataValue(std::uint64_t{4000000000}));
  EXPECT_EQ(metadata.at("i32"), MetadataValue(std::int64_t{-2000000000}));
  EXPECT_EQ(metadata.at("f32"), MetadataValue(0.5));
  EXPECT_EQ(metadata.at("bool"), MetadataValue(true));
  EXPECT_EQ(metadata.at("string"), MetadataValue(std::string("a\0b", 3)));
  EXPECT_THAT(std::get<std::vector<std::string>>(metadata.at("strings")), ElementsAre("x", ""));
  EXPECT_FALSE(metadata.contains("numbers"));
  EXPECT_FALSE(metadata.contains("nested"));
  EXPECT_EQ(metadata.at("u64"), MetadataValue(~std::uint64_t{0}));
  EXPECT_EQ(metadata.at("i64"), MetadataValue(std::int64_t{-5}));
  EXPECT_EQ(metadata.at("f64"), MetadataValue(0.25));
  EXPECT_EQ(metadata.at("last"), MetadataValue(std::string("end")));
}

TEST(Gguf, TensorsAreViewsInPyTorchOrder) {
  const auto bytes = RawGguf(2, 0)
                         .tensor("empty", {0, 3}, kF32, 32)
                         .tensor("matrix", {32, 2, 1, 1}, kQ8_0, 0)
                         .data(68);
  const TensorSource source = parse_gguf(bytes, "test");
  ASSERT_EQ(source.tensors.size(), 2U);
  EXPECT_TRUE(source.tensors[0].bytes.empty());
  const Tensor& matrix = *source.find("matrix");
  EXPECT_THAT(matrix.shape, ElementsAre(1, 1, 2, 32));
  EXPECT_EQ(matrix.type, DataType::Q8_0);
  EXPECT_EQ(matrix.bytes.data(), bytes.data() + bytes.size() - 68);
  EXPECT_EQ(matrix.bytes.size(), 68U);
}

TEST(Gguf, EveryTruncationIsAnError) {
  GgufFile file;
  file.metadata = {{"general.architecture", std::string("rwkv7")},
                   {"tokens", std::vector<std::string>{"a", "bc"}},
                   {"f", 1.0F},
                   {"b", true}};
  file.tensors = {{"x", DataType::F32, {2, 4}, std::vector<std::byte>(32)},
                  {"y", DataType::F16, {16}, std::vector<std::byte>(32)}};
  const auto bytes = gguf_file(file);
  EXPECT_EQ(parse_gguf(bytes, "test").tensors.size(), 2U);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // A copy of that very size, so that the address sanitizer sees a read past the end.
    const std::vector<std::byte> prefix(bytes.begin(),
                                        bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(parse_gguf(prefix, "test"), Error) << size;
  }
}

TEST(Gguf, OtherVersionsAreRefused) {
  expect_refused(RawGguf(0, 0, 1).bytes(), HasSubstr("version 1"));
  expect_refused(RawGguf(0, 0, 4).bytes(), HasSubstr("version 4"));
  expect_refused(RawGguf(0, 0, 3U << 24).bytes(), HasSubstr("big-endian"));
  EXPECT_EQ(parse_gguf(RawGguf(0, 0, 2).bytes(), "test").format, "GGUF v2");
}

TEST(Gguf, CountsThatCannotBeAreRefusedBeforeMemoryIsTaken) {
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  for (const std::uint64_t count : {std::uint64_t{2}, std::uint64_t{1} << 60, kHuge}) {
    expect_refused(RawGguf(count, 0).bytes(), HasSubstr("number of tensors"));
    expect_refused(RawGguf(0, count).bytes(), HasSubstr("number of metadata entries"));
    expect_refused(RawGguf(0, 1).add(count).add(count).bytes(), HasSubstr("metadata key"));
    for (const std::uint32_t type : {0U, 3U, 6U, 7U, 8U, 9U, 12U}) {
      expect_refused(RawGguf(0, 1).key("k", 9).add(type).add(count).bytes(), HasSubstr("k at"));
    }
    expect_refused(RawGguf(0, 1).key("k", 8).add(count).bytes(), HasSubstr("k at"));
  }
}

TEST(Gguf, WrongMetadata) {
  expect_refused(RawGguf(0, 1).key("k", 13).add(0.0).bytes(), HasSubstr("value type 13"));
  expect_refused(RawGguf(0, 1).key("k", 9).add(99U).add(std::uint64_t{0}).bytes(),
                 HasSubstr("value type 99"));
  expect_refused(RawGguf(0, 1).key("k", 7).add(std::uint8_t{2}).bytes(), HasSubstr("bool"));
  expect_refused(RawGguf(0, 1).key("a\nb", 7).add(std::uint8_t{0}).bytes(),
                 HasSubstr("\"a\\x0ab\""));
  expect_refused(RawGguf(0, 1).key("", 4).add(1U).bytes(), HasSubstr("not a metadata key"));
  expect_refused(RawGguf(0, 2).key("k", 4).add(1U).key("k", 4).add(1U).bytes(),
                 HasSubstr("k occurs twice"));
  RawGguf deep(0, 1);
  deep.key("k", 9);
  for (int i = 0; i < 100000; ++i) deep.add(9U).add(std::uint64_t{1});
  expect_refused(deep.bytes(), HasSubstr("nested"));
  for (const std::uint32_t alignment : {0U, 3U, 1U << 20}) {
    expect_refused(RawGguf(0, 1).key("general.alignment", 4).add(alignment).bytes(),
                   HasSubstr("general.alignment"));
  }
  expect_refused(RawGguf(0, 1).key("general.alignment", 8).string("32").bytes(),
                 HasSubstr("general.alignment"));
  expect_refused(RawGguf(0, 1).key("split.count", 2).add(std::uint16_t{2}).bytes(),
                 HasSubstr("one of 2 parts"));
}

TEST(Gguf, WrongTensors) {
  const auto one = [](const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                      std::uint64_t offset) {
    return RawGguf(1, 0).tensor("x", sizes, type, offset).data(128);
  };
  EXPECT_NO_THROW(parse_gguf(one({32}, kF32, 0), "test"));
  expect_refused(one({}, kF32, 0), HasSubstr("0 dimensions"));
  expect_refused(one({1, 1, 1, 1, 1}, kF32, 0), HasSubstr("5 dimensions"));
  expect_refused(one({33}, kF32, 0), HasSubstr("does not lie in"));
  expect_refused(one({32}, kF32, 32), HasSubstr("does not lie in"));
  expect_refused(one({1}, kF32, 1ULL << 63), HasSubstr("does not lie in"));
  expect_refused(one({1}, kF32, ~0ULL - 31), HasSubstr("does not lie in"));
  expect_refused(one({1ULL << 32, 1ULL << 32}, kF32, 0), HasSubstr("does not lie in"));
  expect_refused(one({1ULL << 62}, kF32, 0), HasSubstr("does not lie in"));
  expect_refused(one({1ULL << 59}, kQ8_0, 0), HasSubstr("does not lie in"));
  expect_refused(one({1}, kF32, 4), HasSubstr("alignment"));
  expect_refused(one({33}, kQ8_0, 0), HasSubstr("blocks of 32"));
  expect_refused(one({16, 2}, kQ8_0, 0), HasSubstr("blocks of 32"));
  expect_refused(one({128}, 12, 0), HasSubstr("blocks of 256"));
  expect_refused(one({32}, 6, 0), AllOf(HasSubstr("x has type Q5_0"), HasSubstr("Q8_0")));
  expect_refused(one({1}, 27, 0), HasSubstr("x has type I64"));
  expect_refused(one({1}, 4, 0), HasSubstr("x has type number 4"));
  const auto two = [](std::string_view name, std::uint64_t offset) {
    return RawGguf(2, 0).tensor("x", {16}, kF32, 32).tensor(name, {16}, kF32, offset).data(128);
  };
  EXPECT_NO_THROW(parse_gguf(
      RawGguf(2, 0).tensor("x", {16}, kF32, 64).tensor("y", {16}, kF32, 0).data(128), "test"));
  expect_refused(two("y", 0), HasSubstr("overlap"));
  expect_refused(two("y", 32), HasSubstr("overlap"));
  expect_refused(two("x", 96), HasSubstr("x"));
  expect_refused(RawGguf(1, 0).tensor("\x1b[2J", {1}, kF32, 0).data(4), HasSubstr("\\x1b"));
}

TEST(Gguf, DuplicateNamesAreRefused) {
  expect_refused(RawGguf(2, 0).tensor("x", {8}, kF32, 0).tensor("x", {8}, kF32, 32).data(64),
                 HasSubstr("x occurs twice"));
}

TEST(GgufWriter, WritesWhatTheFormatSays) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  const std::vector<std::byte> matrix(72, std::byte{1});
  const std::vector<std::byte> vector(64, std::byte{2});
  GgufWriter writer(
      path,
      {{"general.architecture", std::string("rwkv7")},
       {"t", true},
       {"n", std::uint32_t{5}},
       {"e", 1e-5F},
       {"words", std::vector<std::string>{"a", "\xff"}}},
      {{"m", DataType::F32, {3, 6}}, {"none", DataType::F32, {0}}, {"v", DataType::F16, {1, 32}}});
  writer.write(std::span(matrix).first(10));
  writer.write(std::span(matrix).subspan(10));
  writer.write(vector);
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.commit();

  GgufFile expected;
  expected.metadata = {{"general.architecture", std::string("rwkv7")},
                       {"t", true},
                       {"n", std::uint32_t{5}},
                       {"e", 1e-5F},
                       {"words", std::vector<std::string>{"a", "\xff"}}};
  expected.tensors = {{"m", DataType::F32, {3, 6}, matrix},
                      {"none", DataType::F32, {0}, {}},
                      {"v", DataType::F16, {1, 32}, vector}};
  const MappedFile file(path);
  const std::vector<std::byte> written(file.bytes().begin(), file.bytes().end());
  EXPECT_EQ(written, gguf_file(expected));
}

TEST(GgufWriter, DataThatDoNotFitTheHeaderAreAnErrorAndLeaveNoFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  const std::vector<std::byte> data(12);
  {
    GgufWriter writer(path, {}, {{"m", DataType::F32, {2}}});
    EXPECT_THROW(writer.write(data), Error);
    EXPECT_THROW(writer.commit(), Error);
    EXPECT_THROW(GgufWriter(path, {}, {{"m", DataType::Q8_0, {33}}}), Error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
}

Tokenizer small_tokenizer() {
  std::vector<std::string> tokens = {""};
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back("the \"quoted\" 'word'\n\\");
  tokens.emplace_back("\xe4\xbd\xa0");
  return Tokenizer(tokens);
}

TEST(GgufExport, EqualsWhatLlamaCppsConverterWrites) {
  const Weights weights = make_synthetic_weights(synthetic_config(), 4);
  const Tokenizer tokenizer = small_tokenizer();
  const TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  export_gguf(path, weights, &tokenizer, store_as(DataType::F16, DataType::F16),
              {.metadata = {{"general.name", std::string("synthetic")}}});
  const TensorSource source = open_checkpoint(path);

  const auto expected = gguf_tensors(weights, DataType::F16);
  EXPECT_EQ(source.tensors.size(), expected.size());
  for (const FileTensor& tensor : expected) {
    const Tensor* const written = source.find(tensor.name);
    ASSERT_NE(written, nullptr) << tensor.name;
    EXPECT_EQ(written->type, tensor.type) << tensor.name;
    EXPECT_EQ(written->shape, tensor.shape) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(written->bytes, tensor.bytes)) << tensor.name;
  }
  for (const auto& [key, value] : gguf_metadata(weights.config)) {
    if (key == "general.file_type") continue;  // a guess at the mix of types; nothing needs it
    ASSERT_TRUE(source.metadata.contains(key)) << key;
    if (const auto* number = std::get_if<std::uint32_t>(&value)) {
      EXPECT_EQ(source.metadata.at(key), MetadataValue(std::uint64_t{*number})) << key;
    }
  }
  const auto& tokens =
      std::get<std::vector<std::string>>(source.metadata.at("tokenizer.ggml.tokens"));
  ASSERT_EQ(tokens.size(), weights.config.vocab_size);
  EXPECT_EQ(tokens[0], "<s>");
  EXPECT_EQ(tokens[11], "\\n");
  EXPECT_EQ(tokens[256], "\\xff");
  EXPECT_EQ(tokens[299], "[PAD299]");
  EXPECT_EQ(source.metadata.at("tokenizer.ggml.model"), MetadataValue(std::string("rwkv")));

  EXPECT_EQ(difference(weights, load_weights(source)), "");
  EXPECT_EQ(tokenizer_of(source)->fingerprint(), tokenizer.fingerprint());
}

TEST(GgufExport, StoresEachMatrixAsChosen) {
  const Weights weights = make_synthetic_weights(synthetic_config(), 4);
  const TemporaryFolder folder;
  const std::string path = folder.path("a.gguf");
  // Rows of 192 are no whole number of 256-blocks: F16 takes their place.
  for (const auto& [asked, stored] :
       {std::pair(DataType::Q8_0, DataType::Q8_0), std::pair(DataType::Q4_K, DataType::F16)}) {
    export_gguf(path, weights, nullptr, store_as(asked, DataType::BF16));
    const Weights loaded = load_weights(open_checkpoint(path));
    const Weights expected = make_synthetic_weights(synthetic_config(), 4, stored, DataType::BF16);
    EXPECT_EQ(loaded.layers[3].ffn.value.type, stored);
    EXPECT_EQ(loaded.layers[3].att.g2.type, DataType::BF16);
    EXPECT_EQ(difference(expected, loaded), "");
  }
}

TEST(GgufExport, AVocabularyLargerThanTheModelIsAnError) {
  Config config = synthetic_config();
  config.vocab_size = 258;
  const Tokenizer tokenizer = small_tokenizer();
  const TemporaryFolder folder;
  EXPECT_THAT(
      [&] {
        export_gguf(folder.path("a"), make_synthetic_weights(config, 1), &tokenizer,
                    store_as(DataType::F16, DataType::F16));
      },
      ThrowsMessage<Error>(HasSubstr("258")));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
}

}  // namespace
}  // namespace gander
