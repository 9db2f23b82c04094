#include "model/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "base/error.h"
#include "tests/support/vocabularies.h"

namespace gander {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::string random_bytes(std::mt19937& random, std::size_t size, int alphabet) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() % static_cast<unsigned>(alphabet));
  return bytes;
}

/// Greedy longest match as its definition says.
std::vector<TokenId> naive_encode(const std::map<std::string, TokenId>& ids, std::size_t longest,
                                  const std::string& text) {
  std::vector<TokenId> encoded;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t length = std::min(longest, text.size() - at);
    while (!ids.contains(text.substr(at, length))) --length;
    encoded.push_back(ids.at(text.substr(at, length)));
    at += length;
  }
  return encoded;
}

TEST(Tokenizer, AgreesWithNaiveLongestMatchOnRandomBytes) {
  std::mt19937 random(1);
  for (const int alphabet : {2, 5, 256}) {
    std::vector<std::string> tokens = byte_tokens();
    std::map<std::string, TokenId> ids;
    std::size_t longest = 0;
    for (int i = 0; i < 3000; ++i) {
      const std::size_t size = 2 + random() % (i % 10 == 0 ? 150 : 8);
      tokens.push_back(random_bytes(random, size, alphabet));
    }
    for (TokenId id = 1; id < tokens.size(); ++id) {
      if (!ids.emplace(tokens[id], id).second) tokens[id].clear();  // an unused id
      longest = std::max(longest, tokens[id].size());
    }
    const Tokenizer tokenizer(tokens);
    for (int i = 0; i < 200; ++i) {
      std::string text = random_bytes(random, random() % 300, alphabet);
      // Random bytes alone would never contain a long token: put a part of one in.
      const std::string& token = tokens[257 + random() % (tokens.size() - 257)];
      text.insert(random() % (text.size() + 1), token.substr(0, random() % (token.size() + 1)));
      const std::vector<TokenId> encoded = tokenizer.encode(text);
      ASSERT_EQ(encoded, naive_encode(ids, longest, text));
      ASSERT_EQ(tokenizer.decode(encoded), text);
    }
  }
}

TEST(Tokenizer, RoundTripsEveryByteString) {
  const Tokenizer tokenizer = read_vocabulary(demo_vocabulary_path());
  EXPECT_EQ(tokenizer.encode(""), std::vector<TokenId>());
  for (int first = 0; first < 256; ++first) {
    const std::string one(1, static_cast<char>(first));
    ASSERT_EQ(tokenizer.encode(one), std::vector<TokenId>{static_cast<TokenId>(first) + 1});
    for (int second = 0; second < 256; ++second) {
      const std::string two = one + static_cast<char>(second);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(two)), two);
    }
  }
  std::mt19937 random(2);
  const std::string text = random_bytes(random, 1 << 20, 256);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

// The cases recorded with the demo model, made by an independent implementation.
TEST(Tokenizer, ReproducesTheDemoModelsReference) {
  const Tokenizer tokenizer = read_vocabulary(demo_vocabulary_path());
  EXPECT_EQ(tokenizer.size(), 4096U);
  EXPECT_THAT(tokenizer.encode("Hello, world!"), ElementsAre(2025, 45, 2771, 34));
  EXPECT_THAT(tokenizer.encode("  two  spaces\nand a line"),
              ElementsAre(33, 1171, 33, 2634, 116, 11, 723, 298, 1707));
  EXPECT_THAT(tokenizer.encode("User: Hi\n\nAssistant: Hello!\n\n"),
              ElementsAre(2076, 535, 257, 4015, 2137, 34, 257));
  EXPECT_THAT(tokenizer.encode("caf\u00e9 \u2603 \U0001f600"),
              ElementsAre(100, 352, 196, 170, 33, 227, 153, 132, 33, 241, 160, 153, 129));
  EXPECT_THAT(tokenizer.encode("Once upon a time, there was a little"),
              ElementsAre(1243, 1951, 298, 1935, 45, 2691, 1175, 298, 3070));
}

TEST(Tokenizer, StableTokensAreThoseThatNoContinuationChanges) {
  const Tokenizer tokenizer = byte_tokenizer({"ab", "abcd", "bc", "xyz"});
  std::vector<TokenId> ids;
  EXPECT_EQ(tokenizer.encode_stable("ababc", ids), 2U);  // "abc" could become "abcd"
  EXPECT_EQ(ids, tokenizer.encode("ab"));
  ids.clear();
  EXPECT_EQ(tokenizer.encode_stable("abq", ids), 3U);
  ids.clear();
  EXPECT_EQ(tokenizer.encode_stable("qxy", ids), 1U);

  // By the definition: what is stable begins every longer text's encoding.
  const Tokenizer demo = read_vocabulary(demo_vocabulary_path());
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    while (text.size() < 20) text += demo.bytes(static_cast<TokenId>(random() % demo.size()));
    const std::string start = text.substr(0, random() % text.size());
    ids.clear();
    const std::size_t covered = demo.encode_stable(start, ids);
    ASSERT_EQ(demo.decode(ids), start.substr(0, covered));
    const std::vector<TokenId> whole = demo.encode(text);
    ASSERT_TRUE(std::equal(ids.begin(), ids.end(), whole.begin())) << text;
  }
}

TEST(Tokenizer, BytesOfIdsWithoutTextAreEmpty) {
  const Tokenizer tokenizer = byte_tokenizer({"", "ab"});
  EXPECT_EQ(tokenizer.size(), 259U);
  EXPECT_EQ(tokenizer.bytes(0), "");
  EXPECT_EQ(tokenizer.bytes(257), "");
  EXPECT_EQ(tokenizer.bytes(258), "ab");
  EXPECT_EQ(tokenizer.bytes(259), "");
  EXPECT_EQ(tokenizer.bytes(0xffffffffU), "");
  EXPECT_EQ(tokenizer.decode({98, 0, 258, 70000}), "aab");
}

TEST(Tokenizer, FingerprintTellsVocabulariesApart) {
  const std::uint64_t fingerprint = byte_tokenizer({"ab", "c d"}).fingerprint();
  EXPECT_EQ(byte_tokenizer({"ab", "c d"}).fingerprint(), fingerprint);
  EXPECT_EQ(byte_tokenizer({"ab", "c d", "", ""}).fingerprint(), fingerprint)
      << "unused ids at the end are no difference";
  EXPECT_NE(byte_tokenizer({"abc", " d"}).fingerprint(), fingerprint);
  EXPECT_NE(byte_tokenizer({"c d", "ab"}).fingerprint(), fingerprint);
}

TEST(Tokenizer, RefusesDuplicatesAndMissingBytes) {
  EXPECT_THAT(
      [] {
        byte_tokenizer({"ab", "x", "ab"});
      },
      ThrowsMessage<Error>(HasSubstr("257 and 259 have the same bytes: 'ab'")));
  std::vector<std::string> tokens = byte_tokens({"ab"});
  tokens[1 + 'a'].clear();
  EXPECT_THAT([&] { Tokenizer{tokens}; }, ThrowsMessage<Error>(HasSubstr("single byte 0x61")));
  EXPECT_THAT([] { Tokenizer{{}}; }, ThrowsMessage<Error>(HasSubstr("single byte 0x00")));
}

TEST(Tokenizer, TakesTokensOfAnyLength) {
  const std::string longest(1000, 'z');
  const Tokenizer tokenizer = byte_tokenizer({longest, "zz"});
  EXPECT_EQ(tokenizer.encode(longest + "z"), (std::vector<TokenId>{257, 1 + 'z'}));
  EXPECT_EQ(tokenizer.encode(longest.substr(1)).size(), 500U);
}

}  // namespace
}  // namespace gander
