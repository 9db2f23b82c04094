#include "engine/stop_matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <random>

#include "base/error.h"

namespace gander {
namespace {

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_FALSE(matcher.push("Hello.\n"));
  EXPECT_EQ(matcher.visible(), "Hello.");
  EXPECT_EQ(matcher.held(), "\n");
  EXPECT_FALSE(matcher.push("\n"));
  EXPECT_EQ(matcher.visible(), "");
  EXPECT_FALSE(matcher.push("\nUs"));  // of three newlines, the last two may begin it
  EXPECT_EQ(matcher.visible(), "\n");
  EXPECT_EQ(matcher.held(), "\n\nUs");
  EXPECT_FALSE(matcher.push("e it."));
  EXPECT_EQ(matcher.visible(), "\n\nUse it.");
  EXPECT_EQ(matcher.held(), "");
  EXPECT_FALSE(matcher.push("Bye\n\nUser"));
  EXPECT_TRUE(matcher.push(": hi"));
  EXPECT_EQ(matcher.visible(), "");
}

TEST(StopMatcher, WithoutStopsEverythingIsVisible) {
  StopMatcher matcher({});
  EXPECT_FALSE(matcher.push("abc"));
  EXPECT_EQ(matcher.visible(), "abc");
  EXPECT_EQ(matcher.held(), "");
}

TEST(StopMatcher, RefusesEmptyStops) {
  EXPECT_THROW(StopMatcher({"a", ""}), Error);
}

/// Where the first match begins by definition: the shortest beginning of the text that ends with a
/// stop, less the longest of those it ends with.
std::optional<std::size_t> first_match(const std::string& text,
                                       const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return end - longest;
  }
  return std::nullopt;
}

/// How many bytes at the end of `text` begin some stop.
std::size_t possible_beginning(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = 1; n < stop.size(); ++n) {
      if (text.ends_with(stop.substr(0, n))) longest = std::max(longest, n);
    }
  }
  return longest;
}

TEST(StopMatcher, AgreesWithTheDefinitionWhereverTheTextIsCut) {
  std::mt19937 random(7);
  const auto random_text = [&](std::size_t size) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  int matched = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) stop = random_text(1 + random() % 7);
    const std::string text = random_text(20);
    const std::optional<std::size_t> expected = first_match(text, stops);
    StopMatcher matcher(stops);
    std::string visible;
    bool stopped = false;
    std::size_t pushed = 0;
    while (!stopped && pushed < text.size()) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 5, text.size() - pushed);
      stopped = matcher.push(std::string_view(text).substr(pushed, size));
      pushed += size;
      visible += matcher.visible();
      if (!stopped) {
        ASSERT_EQ(visible + std::string(matcher.held()), text.substr(0, pushed));
        ASSERT_EQ(matcher.held().size(), possible_beginning(text.substr(0, pushed), stops));
      }
    }
    ASSERT_EQ(stopped, expected.has_value());
    if (stopped) {
      ++matched;
      ASSERT_EQ(visible, text.substr(0, *expected));
    }
  }
  EXPECT_GT(matched, 1000);
  EXPECT_LT(matched, 3900);
}

}  // namespace
}  // namespace gander
