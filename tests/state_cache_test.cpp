#include "engine/cache/state_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>

#include "base/error.h"
#include "tests/support/cached_states.h"

// What is found, and how much is kept in memory.
namespace gander {
namespace {

// The cache as one would explain it: a list, the latest use first, searched from end to end.
class NaiveCache {
 public:
  NaiveCache(const Model& model, std::uint64_t limit) : model_(model), limit_(limit) {}

  void insert(const std::vector<TokenId>& tokens, bool is_turn) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->tokens != tokens) continue;
      is_turn |= at->is_turn;
      entries_.erase(at);
      break;
    }
    entries_.push_front({tokens, is_turn});
    while (bytes() > limit_) entries_.pop_back();
  }

  // The most bytes of the prompt that an entry has, or nothing.
  std::optional<std::size_t> longest(std::string_view text, const std::vector<TokenId>& tokens) {
    std::optional<std::size_t> longest;
    for (const Entry& entry : entries_) {
      const std::string bytes = model_.tokenizer->decode(entry.tokens);
      const bool canonical = entry.tokens.size() < tokens.size() &&
                             std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin());
      const bool same_start = entry.tokens.empty() || (entry.tokens[0] == 0) == (tokens[0] == 0);
      const bool turn =
          entry.is_turn && same_start && bytes.size() < text.size() && text.starts_with(bytes);
      if (canonical || turn) longest = std::max(longest.value_or(0), bytes.size());
    }
    return longest;
  }

  // False when there is no such entry.
  bool use(const std::vector<TokenId>& tokens) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->tokens != tokens) continue;
      entries_.splice(entries_.begin(), entries_, at);
      return true;
    }
    return false;
  }

  std::uint64_t bytes() const {
    std::uint64_t bytes = 0;
    for (const Entry& entry : entries_) bytes += 32 + 256 + entry.tokens.size() * 4;
    return bytes;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::vector<TokenId> tokens;
    bool is_turn;
  };
  const Model& model_;
  std::uint64_t limit_;
  std::list<Entry> entries_;
};

TEST(StateCache, FindsWhatANaiveSearchFinds) {
  const Model model = shape_of_model();
  int found_by_text = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    RandomTexts texts(seed);
    const std::uint64_t limit = 200 + texts.below(10000);
    StateCache cache(model, {.memory_bytes = limit});
    NaiveCache naive(model, limit);
    for (int step = 0; step < 500; ++step) {
      const std::string text = texts.text(8);
      if (texts.below(2) == 0) {
        const std::vector<TokenId> tokens = texts.any_tokens(*model.tokenizer, text);
        if (tokens.empty()) continue;
        const bool is_turn = texts.below(2) == 0;
        insert(cache, model, tokens, is_turn);
        naive.insert(tokens, is_turn);
        EXPECT_EQ(cache.contains(tokens), naive.size() > 0);
      } else {
        const std::vector<TokenId> tokens = prompt_tokens(model, text);
        const auto longest = naive.longest(text, tokens);
        const auto found = cache.find(text, tokens);
        ASSERT_EQ(found.has_value(), longest.has_value());
        if (!found) continue;
        ASSERT_EQ(found->text_size, *longest);
        ASSERT_EQ(model.tokenizer->decode(found->tokens), text.substr(0, *longest));
        ASSERT_TRUE(is_state_after(model, *found));
        ASSERT_TRUE(naive.use(found->tokens));
        found_by_text += found->by_text ? 1 : 0;
        if (!found->by_text) {
          ASSERT_TRUE(std::equal(found->tokens.begin(), found->tokens.end(), tokens.begin()));
        }
      }
      const CacheStatistics statistics = cache.statistics();
      ASSERT_LE(statistics.memory_bytes, limit);
      ASSERT_EQ(statistics.memory_bytes, naive.bytes());
      ASSERT_EQ(statistics.memory_states, naive.size());
    }
  }
  EXPECT_GT(found_by_text, 100);
}

TEST(StateCache, FindsATurnByItsTextAlone) {
  const Model model = shape_of_model();
  StateCache cache(model);
  // "ab" as two tokens, and an end inside a character.
  const std::vector<TokenId> sampled = {0, 'a' + 1, 'b' + 1, 0xC3 + 1};
  insert(cache, model, sampled, false);
  EXPECT_FALSE(find(cache, model, "abé and more"));
  insert(cache, model, sampled, true);
  const auto found = find(cache, model, "abé and more");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->by_text);
  EXPECT_EQ(found->tokens, sampled);
  EXPECT_EQ(found->text_size, 3U);
  EXPECT_FALSE(find(cache, model, "abê")->text_size != 3U);  // begins with the same byte
  EXPECT_FALSE(find(cache, model, "ab\xC3"));                // nothing would be left to read
  EXPECT_FALSE(find(cache, model, "abc"));
  // Without the leading token 0 it is another text.
  EXPECT_FALSE(cache.find("abé and more", model.tokenizer->encode("abé and more")));
  // A canonical one that covers as much is preferred.
  insert(cache, model, "日本", false);
  insert(cache, model,
         std::vector<TokenId>{0, 0xE6 + 1, 0x97 + 1, 0xA5 + 1, 0xE6 + 1, 0x9C + 1, 0xAC + 1}, true);
  EXPECT_FALSE(find(cache, model, "日本 a")->by_text);

  const CacheStatistics statistics = cache.statistics();
  EXPECT_EQ(statistics.lookups, 7U);
  EXPECT_EQ(statistics.hits, 3U);
  EXPECT_EQ(statistics.tokens_saved, 4U + 4U + 2U);
}

// Who finds a state by its text goes on from what that text alone leaves.
TEST(StateCache, ATextWithTokensOfNoBytesIsNotFoundByIt) {
  const Model model = shape_of_model();
  StateCache cache(model);
  const std::vector<TokenId> padded = {0, 'a' + 1, 0, 'b' + 1};
  insert(cache, model, padded, true);
  EXPECT_FALSE(find(cache, model, "ab and more"));
  std::vector<TokenId> same = padded;
  same.push_back('c' + 1);
  const auto found = cache.find("abc", same);
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->by_text);
}

TEST(StateCache, RefusesWhatIsNoStateOfItsModel) {
  const Model model = shape_of_model();
  StateCache cache(model);
  EXPECT_THROW(cache.insert({}, state_after(model, {}), true), Error);
  const std::vector<TokenId> tokens = {0, 5};
  EXPECT_THROW(cache.insert(tokens, nullptr, true), Error);
  EXPECT_THROW(cache.insert(tokens, state_after(shape_of_model(4), tokens), true), Error);
}

}  // namespace
}  // namespace gander
