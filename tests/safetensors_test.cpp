#include "model/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

template <typename Matcher>
void expect_refused(std::string_view header, std::size_t data_size, const Matcher& message) {
  const auto bytes = safetensors_bytes(header, data_size);
  EXPECT_THAT([&] { parse_safetensors(bytes, "test"); }, ThrowsMessage<Error>(message)) << header;
}

TEST(Safetensors, TensorsAreViewsInFileOrder) {
  const auto bytes = safetensors_bytes(
      R"({"a":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},
          "__metadata__":{"format":"pt"},
          "e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},
          "b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}  )",
      16);
  const TensorSource source = parse_safetensors(bytes, "test");
  ASSERT_EQ(source.tensors.size(), 3U);
  EXPECT_EQ(source.tensors[0].name, "b");
  EXPECT_EQ(source.tensors[1].name, "e");
  EXPECT_EQ(source.tensors[2].name, "a");
  EXPECT_EQ(source.tensors[2].type, DataType::F16);
  EXPECT_THAT(source.tensors[2].shape, ElementsAre(2, 3));
  EXPECT_EQ(source.tensors[2].bytes.data(), bytes.data() + bytes.size() - 12);
  EXPECT_EQ(source.metadata.at("format"), MetadataValue(std::string("pt")));
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const auto bytes =
      safetensors_bytes(R"({"a":{"dtype":"BF16","shape":[5],"data_offsets":[0,10]}})", 10);
  EXPECT_EQ(parse_safetensors(bytes, "test").tensors.size(), 1U);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<std::byte> prefix(bytes.begin(),
                                        bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(parse_safetensors(prefix, "test"), Error) << size;
  }
}

TEST(Safetensors, WrongHeaders) {
  expect_refused("", 8, HasSubstr("not a JSON object"));
  expect_refused("[]", 0, HasSubstr("not a JSON object"));
  expect_refused(" {}", 0, HasSubstr("not a JSON object"));
  expect_refused("{", 0, HasSubstr("malformed"));
  expect_refused("{}}", 0, HasSubstr("malformed"));
  expect_refused("{\"a\xff\":1}", 0, HasSubstr("malformed"));
  expect_refused(R"({"a":1})", 0, HasSubstr("entry of a"));
  expect_refused(R"({"a":{}})", 0, HasSubstr("dtype"));
  expect_refused(R"({"__metadata__":{"a":1}})", 0, HasSubstr("__metadata__"));
  expect_refused(R"({"__metadata__":3})", 0, HasSubstr("__metadata__"));
  expect_refused(R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}})", 4,
                 HasSubstr("out of range"));
  expect_refused("{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                 HasSubstr("\"a\\x0ab\""));
  const std::string deep = "{\"a\":" + std::string(1000000, '[');
  expect_refused(deep, 0, HasSubstr("nested"));

  const auto huge = ByteBuilder().add(~std::uint64_t{0}).text("{}").bytes();
  EXPECT_THAT([&] { parse_safetensors(huge, "test"); },
              ThrowsMessage<Error>(HasSubstr("more than safetensors allows")));
}

TEST(Safetensors, DuplicateKeysAreRefused) {
  expect_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                     "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                 4, HasSubstr("\"a\" occurs twice"));
  expect_refused(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4,
                 HasSubstr("\"dtype\" occurs twice"));
  // The same key in two objects is none.
  EXPECT_NO_THROW(
      parse_safetensors(safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                            "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                                          8),
                        "test"));
}

TEST(Safetensors, WrongTensors) {
  const auto header = [](std::string_view type, std::string_view shape, std::string_view offsets) {
    return fmt::format(R"({{"a":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", type, shape,
                       offsets);
  };
  EXPECT_NO_THROW(parse_safetensors(safetensors_bytes(header("F32", "[2]", "[0,8]"), 8), "test"));
  expect_refused(header("I64", "[1]", "[0,8]"), 8, AllOf(HasSubstr("a holds"), HasSubstr("I64")));
  expect_refused(header("F32", "[2]", "[0,12]"), 12, HasSubstr("span 12 bytes"));
  expect_refused(header("F32", "[2]", "[0,8]"), 7, HasSubstr("do not lie in"));
  expect_refused(header("F32", "[2]", "[8,0]"), 8, HasSubstr("do not lie in"));
  expect_refused(header("F32", "[2]", "[0]"), 8, HasSubstr("data_offsets"));
  expect_refused(header("F32", "[2]", "[0,18446744073709551615]"), 8, HasSubstr("do not lie in"));
  expect_refused(header("F32", "[2]", "[0,18446744073709551624]"), 8, HasSubstr("data_offsets"));
  expect_refused(header("F32", "[-2]", "[0,8]"), 8, HasSubstr("shape"));
  expect_refused(header("F32", "[2.0]", "[0,8]"), 8, HasSubstr("shape"));
  expect_refused(header("F32", "\"2\"", "[0,8]"), 8, HasSubstr("shape"));
  expect_refused(header("F32", "[4294967296,4294967296]", "[0,0]"), 0, HasSubstr("span 0"));
  expect_refused(header("F32", "[4611686018427387904]", "[0,0]"), 0, HasSubstr("span 0"));
}

TEST(Safetensors, DataMustTile) {
  const auto header = [](std::string_view first, std::string_view second) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":{}}},
                           "b":{{"dtype":"F32","shape":[1],"data_offsets":{}}}}})",
                       first, second);
  };
  EXPECT_NO_THROW(parse_safetensors(safetensors_bytes(header("[4,8]", "[0,4]"), 8), "test"));
  expect_refused(header("[0,4]", "[0,4]"), 4, HasSubstr("overlap"));
  expect_refused(header("[0,4]", "[2,6]"), 6, HasSubstr("overlap"));
  expect_refused(header("[0,4]", "[5,9]"), 9, HasSubstr("gap"));
  expect_refused(header("[1,5]", "[5,9]"), 9, HasSubstr("gap"));
  expect_refused(header("[0,4]", "[4,8]"), 9, HasSubstr("1 bytes follow"));
}

class Shards : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<FileTensor> tensors = {{"a", DataType::F32, {1}, std::vector<std::byte>(4)}};
    write_bytes(folder_.path("s1"), safetensors_file(tensors));
  }
  template <typename Matcher>
  void expect_index_refused(std::string_view text, const Matcher& message) {
    const std::string path = folder_.path("index.json");
    write_bytes(path, std::as_bytes(std::span(text)));
    EXPECT_THAT([&] { open_checkpoint(path); }, ThrowsMessage<Error>(message)) << text;
  }
  TemporaryFolder folder_;
};

TEST_F(Shards, WrongIndexes) {
  expect_index_refused("{}", HasSubstr("weight_map"));
  expect_index_refused(R"({"weight_map":{}})", HasSubstr("weight_map"));
  expect_index_refused(R"({"weight_map":[1]})", HasSubstr("weight_map"));
  expect_index_refused(R"({"weight_map":{"a":1}})", HasSubstr("not a file name"));
  expect_index_refused(R"({"weight_map":{"a":"../s1"}})", HasSubstr("not a file name"));
  expect_index_refused(R"({"weight_map":{"a":"/etc/passwd"}})", HasSubstr("not a file name"));
  expect_index_refused(R"({"weight_map":{"a":"s2"}})", HasSubstr("s2"));
  expect_index_refused(R"({"weight_map":{"a":"s1","b":"s1"}})", HasSubstr("\"b\" is not in s1"));
  expect_index_refused(R"({"weight_map":{"b":"s1"}})", HasSubstr("does not place there"));
  expect_index_refused(R"({"weight_map":{"a":"s1","a":"s1"}})", HasSubstr("twice"));
}

TEST_F(Shards, AFolderWithoutAModelIsAnError) {
  const TemporaryFolder empty;
  EXPECT_THAT([&] { open_checkpoint(empty.path("")); },
              ThrowsMessage<Error>(HasSubstr("no .safetensors file")));
}

TEST(Checkpoint, OtherFilesAreRefusedByWhatTheyAre) {
  const TemporaryFolder folder;
  const auto expect_refused_text = [&](std::string_view text, const char* message) {
    const std::string path = folder.path("file");
    write_bytes(path, std::as_bytes(std::span(text)));
    EXPECT_THAT([&] { open_checkpoint(path); },
                ThrowsMessage<Error>(AllOf(HasSubstr(path), HasSubstr(message))));
  };
  expect_refused_text("hello", "not a checkpoint");
  expect_refused_text("\x80\x02}q.", "before PyTorch 1.6");
  expect_refused_text("fmgg0000", "rwkv.cpp");
  expect_refused_text("\x1b[2J\n", "\\x1b[2J\\x0a");
  expect_refused_text("", "empty");
  EXPECT_THAT([&] { open_checkpoint(folder.path("none")); },
              ThrowsMessage<Error>(HasSubstr("No such file")));
}

}  // namespace
}  // namespace gander
