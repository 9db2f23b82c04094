#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/tokenizer/tokenizer.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Lines for the 256 bytes, as the World vocabulary has them, then `more`.
std::string vocabulary_text(const std::string& more, const std::string& newline = "\n") {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) {
    text += fmt::format("{} b'\\x{:02x}' 1{}", byte + 1, byte, newline);
  }
  return text + more;
}

std::string token_of(const std::string& line) {
  return std::string(parse_vocabulary(vocabulary_text(line), "v.txt").bytes(257));
}

void expect_error(const std::string& more, const std::string& message) {
  EXPECT_THAT([&] { parse_vocabulary(vocabulary_text(more), "v.txt"); },
              ThrowsMessage<Error>(AllOf(HasSubstr("v.txt"), HasSubstr(message))))
      << more;
}

TEST(Vocabulary, ReadsEveryFormOfPythonLiteral) {
  EXPECT_EQ(token_of("257 'ab c' 4"), "ab c");
  EXPECT_EQ(token_of("257 \"don't\" 5"), "don't");
  EXPECT_EQ(token_of("257 'a\\'\"' 3"), "a'\"");
  EXPECT_EQ(token_of("257 '\\t\\n\\r\\\\' 4"), "\t\n\r\\");
  EXPECT_EQ(token_of("257 '\\a\\b\\f\\v\\0' 5"), std::string("\a\b\f\v\0", 5));
  EXPECT_EQ(token_of("257 '\\x7f\\x1b' 2"), "\x7f\x1b");
  EXPECT_EQ(token_of("257 '\\u2603\\U0001f600' 7"), "\u2603\U0001f600");
  EXPECT_EQ(token_of("257 '\u4f60\u597d' 6"), "\u4f60\u597d");
  EXPECT_EQ(token_of("257 b'\\xe4\\xbd' 2"), "\xe4\xbd");
  EXPECT_EQ(token_of("257 b\"\\xE4'\" 2"), "\xe4'");
}

TEST(Vocabulary, HexEscapesAreCodePointsInTextAndBytesInBytes) {
  EXPECT_EQ(token_of("257 '\\x85\\xff' 4"), "\xc2\x85\xc3\xbf");
  EXPECT_EQ(token_of("257 b'\\x85\\xff' 2"), "\x85\xff");
}

TEST(Vocabulary, ToleratesWindowsLineEndsAndAMissingLastNewline) {
  const Tokenizer tokenizer = parse_vocabulary(vocabulary_text("257 'ab' 2", "\r\n"), "v.txt");
  EXPECT_EQ(tokenizer.bytes(257), "ab");
  EXPECT_EQ(tokenizer.fingerprint(),
            parse_vocabulary(vocabulary_text("257 'ab' 2\n"), "v.txt").fingerprint());
}

TEST(Vocabulary, IdsMayLeaveGaps) {
  const Tokenizer tokenizer = parse_vocabulary(vocabulary_text("1048575 'ab' 2\n"), "v.txt");
  EXPECT_EQ(tokenizer.size(), 1U << 20);
  EXPECT_EQ(tokenizer.encode("ab"), std::vector<TokenId>{1048575});
}

TEST(Vocabulary, NamesFileLineAndReason) {
  expect_error("257 'ab' 3\n", "line 257: token 257 has 2 bytes, not 3");
  expect_error("257 '\u2603' 1\n", "has 3 bytes, not 1");
  expect_error("257 'ab' 2\n257 'cd' 2\n", "line 258: token 257 is defined twice");
  expect_error("257 'ab' 2\n258 'ab' 2\n", "257 and 258 have the same bytes");
  expect_error("0 'ab' 2\n", "line 257: expected an id from 1");
  expect_error("-1 'ab' 2\n", "expected an id");
  expect_error("1048576 'ab' 2\n", "expected an id");
  expect_error("99999999999999999999 'ab' 2\n", "expected an id");
  expect_error("x257 'ab' 2\n", "expected an id");
  expect_error(" 257 'ab' 2\n", "expected an id");
  expect_error("257\n", "expected `id literal length`");
  expect_error("257 'ab'\n", "expected `id literal length`");
  expect_error("257 ab 2\n", "literal in quotes");
  expect_error("257 'ab\" 2\n", "literal in quotes");
  expect_error("257 ' 1\n", "literal in quotes");
  expect_error("257 b 1\n", "literal in quotes");
  expect_error("257 '' 0\n", "token 257 is empty");
  expect_error("257 'ab' two\n", "expected a length");
  expect_error("257 'ab' -2\n", "expected a length");
  expect_error("257 'ab' 2 \n", "literal in quotes");
  expect_error("257 '\\x4' 1\n", "\\x without 2 hexadecimal digits");
  expect_error("257 '\\u12' 1\n", "\\u without 4 hexadecimal digits");
  expect_error("257 '\\U0001f6' 1\n", "\\U without 8 hexadecimal digits");
  expect_error("257 '\\ud800' 3\n", "U+D800");
  expect_error("257 '\\U00110000' 4\n", "U+110000");
  expect_error("257 '\\q' 1\n", "unknown escape \\q");
  expect_error("257 b'\\u0041' 1\n", "unknown escape \\u");
  expect_error("257 '\\' 1\n", "backslash with nothing after it");
  EXPECT_THAT([] { parse_vocabulary("", "v.txt"); },
              ThrowsMessage<Error>(HasSubstr("v.txt: the vocabulary has no token")));
  EXPECT_THROW(parse_vocabulary(std::string("\0\n\xff", 3), "v.txt"), Error);
  EXPECT_THAT([] { read_vocabulary("/nonexistent/v.txt"); },
              ThrowsMessage<Error>(HasSubstr("/nonexistent/v.txt")));
}

TEST(Vocabulary, GgufEscapesRoundTrip) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
      ASSERT_EQ(unescape_token(escape_token(bytes)), bytes);
    }
  }
  // What Python's repr(bytes)[2:-1] gives.
  EXPECT_EQ(escape_token("don't"), "don't");
  EXPECT_EQ(escape_token("\"don't\""), "\"don\\'t\"");
  EXPECT_EQ(escape_token(std::string("\0\t\n\r\\\x7f\xe2 ~", 9)), "\\x00\\t\\n\\r\\\\\\x7f\\xe2 ~");
  EXPECT_THROW(unescape_token("\\x4"), Error);
  EXPECT_THROW(unescape_token("a\\"), Error);
}

TensorSource gguf_with(std::vector<std::string> tokens, const std::string& model = "rwkv") {
  TensorSource source;
  source.path = "m.gguf";
  source.metadata["tokenizer.ggml.model"] = model;
  source.metadata["tokenizer.ggml.tokens"] = std::move(tokens);
  return source;
}

TEST(Vocabulary, GgufMetadataGivesTheSameTokenizer) {
  const Tokenizer demo = read_vocabulary(demo_vocabulary_path());
  std::vector<std::string> tokens = {"<s>"};
  for (TokenId id = 1; id < demo.size(); ++id) tokens.push_back(escape_token(demo.bytes(id)));
  for (std::size_t id = tokens.size(); id < 5000; ++id)
    tokens.push_back(fmt::format("[PAD{}]", id));
  const std::optional<Tokenizer> tokenizer = tokenizer_of(gguf_with(tokens));
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ(tokenizer->size(), demo.size());
  EXPECT_EQ(tokenizer->fingerprint(), demo.fingerprint());
}

TEST(Vocabulary, OnlyAnIdsOwnPadNameMeansUnused) {
  std::vector<std::string> tokens = {"<s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("\\x{:02x}", byte));
  tokens.emplace_back("[PAD257]");
  tokens.emplace_back("[PAD1]");
  const std::optional<Tokenizer> tokenizer = tokenizer_of(gguf_with(tokens));
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ(tokenizer->bytes(257), "");
  EXPECT_EQ(tokenizer->bytes(258), "[PAD1]");
}

TEST(Vocabulary, GgufErrors) {
  EXPECT_FALSE(tokenizer_of(TensorSource()).has_value());
  EXPECT_FALSE(tokenizer_of(gguf_with({}, "none")).has_value());
  EXPECT_THAT([] { tokenizer_of(gguf_with({}, "gpt2")); },
              ThrowsMessage<Error>(HasSubstr("m.gguf: its tokenizer (tokenizer.ggml.model) is "
                                             "\"gpt2\"")));
  EXPECT_THAT(
      [] {
        tokenizer_of(gguf_with({"<s>", "\\x4"}));
      },
      ThrowsMessage<Error>(HasSubstr("m.gguf: tokenizer.ggml.tokens[1]: ")));
  EXPECT_THAT(
      [] {
        tokenizer_of(gguf_with({"<s>", "a"}));
      },
      ThrowsMessage<Error>(HasSubstr("m.gguf: tokenizer.ggml.tokens: ")));
  TensorSource source = gguf_with({});
  source.metadata["tokenizer.ggml.tokens"] = true;
  EXPECT_THAT([&] { tokenizer_of(source); }, ThrowsMessage<Error>(HasSubstr("not a list")));
  source = gguf_with({});
  source.metadata.erase("tokenizer.ggml.model");
  EXPECT_THAT([&] { tokenizer_of(source); }, ThrowsMessage<Error>(HasSubstr("is not named")));
}

}  // namespace
}  // namespace gander
