#include "model/tokenizer/utf8_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace gander {
namespace {

const std::string kReplacement = "\xef\xbf\xbd";

std::string decode(std::string_view bytes, std::size_t cut) {
  Utf8Stream stream;
  std::string text(stream.push(bytes.substr(0, cut)));
  text += stream.push(bytes.substr(cut));
  return text += stream.finish();
}

TEST(Utf8Stream, ValidTextPassesWhereverItIsCut) {
  const std::string text =
      "a\u00e9\u2603\U0001f600\ud7ff\ue000\U0010ffff\u0080\u07ff\u0800\uffff z";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) ASSERT_EQ(decode(text, cut), text);
  Utf8Stream stream;
  std::string bytewise;
  for (const char c : text) bytewise += stream.push({&c, 1});
  EXPECT_EQ(bytewise, text);
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, HoldsBackOnlyTheIncompleteCharacter) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("ab\xf0\x9f\x98"), "ab");
  EXPECT_EQ(stream.push("\x80"), "\U0001f600");
  EXPECT_EQ(stream.push("\xe2\x98"), "");
  EXPECT_EQ(stream.finish(), kReplacement);
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push("\x83"), kReplacement) << "finish() forgets what was held";
}

TEST(Utf8Stream, InvalidBytesBecomeReplacementCharactersAtOnce) {
  const struct {
    std::string bytes;
    int replacements;
    std::string rest;
  } cases[] = {
      {"\x80", 1, ""},
      {"\xff", 1, ""},
      {"\xc0\xaf", 2, ""},
      {"\xc1\xbf", 2, ""},
      {"\xe0\x80\x80", 3, ""},  // overlong
      {"\xf0\x80\x80\x80", 4, ""},
      {"\xed\xa0\x80", 3, ""},  // a surrogate
      {"\xf4\x90\x80\x80", 4, ""},
      {"\xf5\x80", 2, ""},  // above U+10FFFF
      {"\xe2\x98q", 1, "q"},
      {"\xf0\x9f\x98q", 1, "q"},
      {"\xc3\xc3\xa9", 1, "\u00e9"},
  };
  for (const auto& [bytes, replacements, rest] : cases) {
    std::string expected;
    for (int i = 0; i < replacements; ++i) expected += kReplacement;
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
      EXPECT_EQ(decode(bytes, cut), expected + rest);
    }
    Utf8Stream stream;
    EXPECT_EQ(stream.push(bytes), expected + rest) << "nothing may wait for finish()";
  }
}

/// Whether `text` is UTF-8 by decoding and encoding every character again.
bool is_valid(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t size = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (byte >= 0x80 && byte < 0xc0) return false;
    if (byte >= 0xf8 || i + size > text.size()) return false;
    char32_t code_point = size == 1 ? byte : byte & (0xffU >> (size + 1));
    for (std::size_t j = 1; j < size; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      if ((next & 0xc0U) != 0x80U) return false;
      code_point = code_point << 6 | (next & 0x3fU);
    }
    constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code_point < kSmallest[size] || code_point > 0x10ffff) return false;
    if (code_point >= 0xd800 && code_point < 0xe000) return false;
    i += size;
  }
  return true;
}

TEST(Utf8Stream, RandomBytesGiveValidTextThatDoesNotDependOnTheCuts) {
  std::mt19937 random(4);
  // Bytes that often begin or continue a character.
  const std::string alphabet =
      "a\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe2\xed\xef\xf0\xf1\xf4\xf5";
  for (int i = 0; i < 3000; ++i) {
    std::string bytes;
    for (int j = 0; j < 12; ++j) bytes += alphabet[random() % alphabet.size()];
    const std::string whole = decode(bytes, 0);
    ASSERT_TRUE(is_valid(whole));
    for (std::size_t cut = 1; cut <= bytes.size(); ++cut) ASSERT_EQ(decode(bytes, cut), whole);
  }
}

}  // namespace
}  // namespace gander
