#include "model/checkpoint/pth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/checkpoint/pickle.h"
#include "model/checkpoint/zip.h"
#include "tests/support/checkpoint_files.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::byte> bytes_of(std::string_view text) {
  return ByteBuilder().text(text).bytes();
}

// Opcodes of pickle as strings.
const std::string kProtocol = "\x80\x02";    // PROTO 2
const std::string kStart = kProtocol + "}";  // EMPTY_DICT
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";

std::string text(const std::string& value) {
  return std::string("X") + static_cast<char>(value.size()) + std::string(3, '\0') + value;
}

std::string number(int value) {
  return std::string("K") + static_cast<char>(value);
}

std::string tuple(const std::vector<int>& values) {
  std::string result = "(";
  for (const int value : values) result += number(value);
  return result + "t";
}

std::string storage(const std::string& type, const std::string& key, int size) {
  return std::string("(") + text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") +
         number(size) + "tQ";
}

/// One item of a dictionary: a tensor over storage "0" of 6 floats.
std::string item(const std::string& name, const std::string& arguments,
                 const std::string& over = storage("FloatStorage", "0", 6)) {
  return text(name) + kRebuild + "(" + over + arguments + "\x89)tR";
}

std::string view(int offset, const std::vector<int>& shape, const std::vector<int>& stride) {
  return number(offset) + tuple(shape) + tuple(stride);
}

std::string one_tensor(const std::string& arguments,
                       const std::string& over = storage("FloatStorage", "0", 6)) {
  return kStart + item("a", arguments, over) + "s.";
}

std::vector<std::byte> archive_of(const std::string& pickle, std::size_t storage_bytes = 24) {
  return zip_file({{"m/data.pkl", bytes_of(pickle)},
                   {"m/data/0", std::vector<std::byte>(storage_bytes, std::byte{7})}});
}

TensorSource parse(const std::string& pickle) {
  const auto archive = archive_of(pickle);
  return parse_pth(archive, "test");
}

template <typename Matcher>
void expect_refused(const std::string& pickle, const Matcher& message) {
  EXPECT_THAT([&] { parse(pickle); }, ThrowsMessage<Error>(message));
}

template <typename Matcher>
void expect_archive_refused(const std::vector<std::byte>& archive, const Matcher& message) {
  EXPECT_THAT([&] { parse_pth(archive, "test"); }, ThrowsMessage<Error>(message));
}

TEST(Pth, TensorsAreViewsOfTheirStorage) {
  const auto archive = archive_of(one_tensor(view(2, {2, 2}, {2, 1})));
  const TensorSource source = parse_pth(archive, "test");
  ASSERT_EQ(source.tensors.size(), 1U);
  const Tensor& tensor = source.tensors[0];
  EXPECT_THAT(tensor.shape, ElementsAre(2, 2));
  EXPECT_EQ(tensor.bytes.size(), 16U);
  // Two elements behind the start, which PyTorch aligns to 64 bytes.
  EXPECT_EQ((tensor.bytes.data() - archive.data()) % 64, 8);
  EXPECT_EQ(tensor.bytes[0], std::byte{7});
}

TEST(Pth, ShapesThatFitTheirStorage) {
  EXPECT_TRUE(parse(one_tensor(view(5, {}, {}))).tensors[0].shape.empty());
  EXPECT_NO_THROW(parse(one_tensor(view(0, {6}, {1}))));
  EXPECT_NO_THROW(parse(one_tensor(view(0, {1, 6, 1}, {99, 1, 77}))));  // strides of ones are free
  EXPECT_TRUE(parse(one_tensor(view(6, {0, 3}, {3, 1}))).tensors[0].bytes.empty());
}

TEST(Pth, ShapesThatDoNot) {
  expect_refused(one_tensor(view(6, {}, {})), HasSubstr("a [] at offset 6"));
  expect_refused(one_tensor(view(1, {6}, {1})), HasSubstr("beyond its storage"));
  expect_refused(one_tensor(view(0, {7}, {1})), HasSubstr("beyond its storage"));
  expect_refused(one_tensor(view(7, {0}, {1})), HasSubstr("beyond its storage"));
  expect_refused(one_tensor(view(0, {2, 3}, {1, 2})), HasSubstr("a is not contiguous"));
  expect_refused(one_tensor(view(0, {3}, {2})), HasSubstr("a is not contiguous"));
  expect_refused(one_tensor(view(0, {3}, {0})), HasSubstr("a is not contiguous"));
  expect_refused(one_tensor(view(0, {3}, {1, 1})), HasSubstr("impossible shape"));
  const std::string large = std::string("\x8a\x08").append(7, '\0') + "\x40";  // LONG1: 2^62
  expect_refused(one_tensor(number(0) + large + large + "\x86" + large + number(1) + "\x86"),
                 HasSubstr("impossible shape"));
  expect_refused(one_tensor(number(0) + large + "\x85" + number(1) + "\x85"),
                 HasSubstr("impossible shape"));
  expect_refused(one_tensor(large + tuple({1}) + tuple({1})), HasSubstr("beyond its storage"));
  expect_refused(one_tensor("J\xff\xff\xff\xff" + tuple({1}) + tuple({1})),
                 HasSubstr("offset of a is not a whole number"));
  expect_refused(one_tensor(number(0) + tuple({1}) + number(1)), HasSubstr("stride of a"));
  expect_refused(one_tensor(view(0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1})), HasSubstr("size of a"));
}

TEST(Pth, StoragesThatDoNotFit) {
  const std::string whole = view(0, {6}, {1});
  expect_refused(one_tensor(whole, storage("LongStorage", "0", 3)),
                 AllOf(HasSubstr("a lies in a LongStorage"), HasSubstr("BFloat16")));
  expect_refused(one_tensor(whole, storage("FloatStorage", "1", 6)), HasSubstr("m/data/1"));
  expect_refused(one_tensor(whole, storage("FloatStorage", "../0", 6)), HasSubstr("missing"));
  expect_refused(one_tensor(whole, storage("HalfStorage", "0", 6)), HasSubstr("24 bytes"));
  expect_refused(one_tensor(whole, storage("FloatStorage", "0", 7)), HasSubstr("7 elements"));
  expect_refused(one_tensor(whole, storage("FloatStorage", "\n", 6)), HasSubstr("\"\\x0a\""));
  const auto odd = archive_of(one_tensor(whole), 25);
  expect_archive_refused(odd, HasSubstr("25 bytes"));
}

TEST(Pth, TensorsMayShareStorageButNotWithoutEnd) {
  const auto sharing = [](int times) {
    std::string pickle = kStart + item("t", view(0, {255}, {1}), storage("FloatStorage", "0", 255));
    pickle += "q\x01s(";
    for (int i = 1; i < times; ++i) pickle += text(std::to_string(i)) + "h\x01";
    return archive_of(pickle + "u.", 1020);
  };
  EXPECT_EQ(parse_pth(sharing(2), "test").tensors.size(), 2U);  // tied matrices
  expect_archive_refused(sharing(200), HasSubstr("four times"));
}

TEST(Pth, NamesAreChecked) {
  const std::string whole = view(0, {6}, {1});
  expect_refused(kStart + item("a", whole) + "s" + item("a", whole) + "s.",
                 HasSubstr("a occurs twice"));
  expect_refused(kStart + item("\x1b", whole) + "s.", HasSubstr("not a tensor name"));
  expect_refused(kStart + number(1) + number(2) + "s.", HasSubstr("not a tensor name"));
  expect_refused(kStart + text("epoch") + number(2) + "s.", HasSubstr("epoch is not a tensor"));
}

TEST(Pickle, NothingIsCalledButTwoFunctions) {
  expect_refused(kProtocol + "cos\nsystem\n" + text("echo pwned") + "\x85R.",
                 AllOf(HasSubstr("\"os.system\""), HasSubstr("any code")));
  expect_refused(std::string("\x80\x04") + text("posix") + text("system") + "\x93.",
                 HasSubstr("\"posix.system\""));
  expect_refused(kProtocol + "c__builtin__\neval\n.", HasSubstr("__builtin__.eval"));
  expect_refused(kProtocol + "ctorch._utils\n_rebuild_parameter\n.",
                 HasSubstr("_rebuild_parameter"));
  expect_refused(kProtocol + "ctorch\nload\n.", HasSubstr("torch.load"));
  expect_refused(kProtocol + "ctorch.a\nxStorage\n.", HasSubstr("torch.a.xStorage"));
  // The name of a type may be used, but not called.
  expect_refused(kProtocol + "ctorch\nFloatStorage\n)R.",
                 HasSubstr("torch.FloatStorage is called"));
}

TEST(Pickle, OtherOpcodesAreRefusedByName) {
  const std::pair<const char*, const char*> opcodes[] = {
      {"i", "INST"},   {"o", "OBJ"},      {"\x81", "NEWOBJ"},    {"]", "EMPTY_LIST"},
      {"N", "NONE"},   {"2", "DUP"},      {"0", "POP"},          {"\x82", "EXT1"},
      {"P", "PERSID"}, {"G", "BINFLOAT"}, {"\x92", "NEWOBJ_EX"}, {"\x05", "unknown"}};
  for (const auto& [opcode, name] : opcodes) {
    expect_refused(kProtocol + std::string(opcode), AllOf(HasSubstr(name), HasSubstr("offset 2")));
  }
  expect_refused("\x80\x01.", HasSubstr("protocol 1"));
  expect_refused("\x80\x06.", HasSubstr("protocol 6"));
}

TEST(Pickle, WrongProgramsAreErrors) {
  const std::vector<std::string> programs = {".",
                                             "K\x01.",
                                             "t",
                                             "\x85",
                                             "R",
                                             "}R",
                                             "}K\x01s",
                                             "K\x01K\x01K\x01s",
                                             "}(K\x01u",
                                             "(s",
                                             "}(u(s",
                                             "Q",
                                             ")Q",
                                             "b",
                                             ")b",
                                             ")M\x01\x02\x62",
                                             "h\x05",
                                             "q\x05",
                                             "(q\x05",
                                             "\x94",
                                             "c",
                                             "cabc",
                                             "cabc\n",
                                             "\x93",
                                             "K\x01K\x02\x93",
                                             "X\xff\xff\xff\xff",
                                             "\x8a\x09",
                                             "\x8a\xff",
                                             std::string("c").append(300, 'a') + "\nb\n",
                                             kRebuild + ")R",
                                             kRebuild + "K\x01R",
                                             "ccollections\nOrderedDict\nK\x01\x85R"};
  for (const std::string& program : programs) {
    EXPECT_THROW(parse(kProtocol + program), Error) << program;
  }
}

TEST(Pickle, ADictionaryInsideItselfIsNoEndlessLoop) {
  expect_refused(kStart + "q\x01" + text("a") + "h\x01s.", HasSubstr("a is not a tensor"));
  expect_refused(kStart + "q\x01" + text("state_dict") + "h\x01s.", HasSubstr("not a tensor"));
}

TEST(Pickle, DeepNestingIsNoRecursion) {
  std::string deep = kProtocol + ")";
  for (int i = 0; i < 1000000; ++i) deep += '\x85';
  expect_refused(deep + ".", HasSubstr("dictionary"));
  expect_refused(kProtocol + std::string(1000000, '('), HasSubstr("ends too early"));
  EXPECT_THAT([] { unpickle_tensors(std::vector<std::byte>(9'000'000), "test"); },
              ThrowsMessage<Error>(HasSubstr("9000000 bytes")));
}

TEST(Pickle, ArgumentsAreNotCopiedWithoutEnd) {
  // A long tuple, handed to the same function again and again.
  std::string bomb = kProtocol + "(";
  for (int i = 0; i < 100000; ++i) bomb += ')';
  bomb += "tq\x01" + kRebuild + "q\x02";
  for (int i = 0; i < 100000; ++i) bomb += "h\x02h\x01R";
  expect_refused(bomb + ".", HasSubstr("100000 arguments"));
}

TEST(Pth, EveryTruncationIsAnError) {
  const std::vector<FileTensor> tensors = {
      {"x", DataType::BF16, {3, 2}, std::vector<std::byte>(12)},
      {"y", DataType::F32, {1}, std::vector<std::byte>(4)}};
  for (const PthOptions& options : {PthOptions{}, PthOptions{.zip64 = true},
                                    PthOptions{.protocol = 4, .sizes_follow_data = false}}) {
    const auto bytes = pth_file(tensors, options);
    EXPECT_EQ(parse_pth(bytes, "test").tensors.size(), 2U);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const std::vector<std::byte> prefix(bytes.begin(),
                                          bytes.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(parse_pth(prefix, "test"), Error) << size;
    }
  }
}

TEST(Pth, EveryTruncationOfThePickleIsAnError) {
  const std::string whole = one_tensor(view(0, {6}, {1}));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(parse(whole.substr(0, size)), Error) << size;
  }
}

TEST(Pth, OtherArchivesAreRefused) {
  expect_archive_refused(zip_file({}), HasSubstr("without data.pkl"));
  expect_archive_refused(zip_file({{"data.pkl", {}}}), HasSubstr("without data.pkl"));
  expect_archive_refused(zip_file({{"a/b/data.pkl", {}}}), HasSubstr("without data.pkl"));
  expect_archive_refused(zip_file({{"m/data.pkl", {}}, {"m/byteorder", bytes_of("big")}}),
                         HasSubstr("\"big\" byte order"));
}

/// Replaces bytes at an offset from the place where `magic` stands last.
std::vector<std::byte> patched(std::vector<std::byte> archive, std::string_view magic,
                               std::size_t offset, std::string_view replacement) {
  const std::string_view view(reinterpret_cast<const char*>(archive.data()), archive.size());
  const std::size_t at = view.rfind(magic) + offset;
  std::ranges::copy(std::as_bytes(std::span(replacement)),
                    archive.begin() + static_cast<std::ptrdiff_t>(at));
  return archive;
}

TEST(Zip, EntriesThatAreNotStoredAreRefused) {
  const auto archive = zip_file({{"a", bytes_of("hello")}});
  const auto refused = [&](const std::vector<std::byte>& bytes, const char* message) {
    EXPECT_THAT([&] { read_stored_zip(bytes, "test"); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  EXPECT_EQ(read_stored_zip(archive, "test").at(0).data.size(), 5U);
  const std::string central = "PK\x01\x02", local = "PK\x03\x04", end = "PK\x05\x06";
  refused(patched(archive, central, 10, "\x08"), "a is compressed (method 8)");
  refused(patched(archive, central, 8, "\x01"), "a is encrypted");
  refused(patched(archive, central, 20, "\x04"), "two sizes differ");
  refused(patched(archive, central, 46, "b"), "contradicts");
  refused(patched(archive, central, 46, "\n"), "not an entry name");
  refused(patched(archive, central, 42, "\x01"), "no local header");
  refused(patched(archive, central, 42, "\xff\xff\xff\x7f"), "beyond the end");
  refused(patched(archive, central, 0, "XX"), "central directory entry");
  refused(patched(archive, local, 8, "\x08"), "contradicts");
  refused(patched(archive, end, 10, "\x02"), "does not fit");
  refused(patched(archive, end, 12, "\xff\xff"), "does not fit");
  refused(patched(archive, end, 16, "\xff\xff"), "does not fit");
  refused(patched(archive, end, 20, "\x01"), "end record");

  const auto plain = zip_file({{"a", bytes_of("hello")}}, {.sizes_follow_data = false});
  refused(patched(plain, local, 18, "\x06"), "contradicts");
  refused(zip_file({{"a", {}}, {"a", {}}}), "a occurs twice");

  const auto zip64 = zip_file({{"a", bytes_of("hello")}}, {.zip64 = true});
  refused(patched(zip64, "PK\x06\x07", 0, "XX"), "zip64 locator");
  refused(patched(zip64, "PK\x06\x07", 8, "\xff\xff\xff\xff\xff\xff\xff\xff"), "beyond the end");
  refused(patched(zip64, "PK\x06\x06", 0, "XX"), "zip64 end record");
  refused(patched(zip64, "PK\x06\x06", 32, "\xff\xff\xff\xff\xff\xff\xff\xff"), "does not fit");
}

TEST(Zip, OverlappingEntriesAreRefused) {
  // The second entry of the directory points into the data of the first, which hold a local header.
  const auto inner = zip_file({{"b", bytes_of("12345")}}, {.sizes_follow_data = false});
  const auto outer =
      zip_file({{"a", inner}, {"b", bytes_of("12345")}}, {.sizes_follow_data = false});
  EXPECT_EQ(read_stored_zip(outer, "test").size(), 2U);
  // The data of "a" begin at a multiple of 64: 30 + 1 + 4 and padding.
  const auto bytes = patched(outer, "PK\x01\x02", 42, std::string("\x40\0\0\0", 4));
  EXPECT_THAT([&] { read_stored_zip(bytes, "test"); }, ThrowsMessage<Error>(HasSubstr("overlap")));
}

}  // namespace
}  // namespace gander
