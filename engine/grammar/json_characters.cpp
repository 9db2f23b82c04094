#include "engine/grammar/json_characters.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace gander {

CodeSet complement(CodeSet set) {
  std::ranges::sort(set);
  CodeSet result;
  std::uint32_t next = 0;
  for (const auto& [low, high] : set) {
    if (low > next) result.emplace_back(next, low - 1);
    next = std::max(next, high + 1);
  }
  if (next <= kLastCodePoint) result.emplace_back(next, kLastCodePoint);
  return result;
}

void add_characters(Pushdown& automaton, std::uint32_t from, const CodeSet& set, std::uint32_t to) {
  for (const CodePoints& range : set) {
    for (std::uint32_t code = range.first; code <= std::min(range.second, 0x1FU); ++code) {
      static constexpr std::string_view kShort = "\bb\tt\nn\ff\rr";
      const std::size_t at = kShort.find(static_cast<char>(code));
      const std::string escape = code != 0 && at != std::string_view::npos
                                     ? fmt::format("\\{}", kShort[at + 1])
                                     : fmt::format("\\u{:04x}", code);
      automaton.add_skip(automaton.add_text(from, escape), to);
    }
    std::uint32_t low = std::max(range.first, 0x20U);
    for (const std::uint32_t special : {std::uint32_t{'"'}, std::uint32_t{'\\'}}) {
      if (low > special || special > range.second) continue;
      const char escape[] = {'\\', static_cast<char>(special)};
      automaton.add_skip(automaton.add_text(from, {escape, 2}), to);
      if (low < special) automaton.add_edge(from, CodePoints{low, special - 1}, to);
      low = special + 1;
    }
    if (low <= range.second) automaton.add_edge(from, CodePoints{low, range.second}, to);
  }
}

void add_plain_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to) {
  for (const CodePoints& range : {CodePoints{0x20, '"' - 1}, CodePoints{'"' + 1, '\\' - 1},
                                  CodePoints{'\\' + 1, kLastCodePoint}}) {
    automaton.add_edge(from, range, to);
  }
}

void add_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to) {
  add_plain_character(automaton, from, to);
  const std::uint32_t escape = automaton.add_text(from, "\\");
  for (const char letter : std::string_view("\"\\/bfnrt")) {
    automaton.add_byte(escape, letter, to);
  }
  // A code unit in four hexadecimal digits; the halves of a surrogate pair only together.
  const auto add_digits = [&](std::uint32_t at, std::string_view digits, std::uint32_t target) {
    for (const char digit : digits) automaton.add_byte(at, digit, target);
  };
  static constexpr std::string_view kHex = "0123456789abcdefABCDEF";
  std::uint32_t rest[4];  // so many digits are left
  rest[0] = to;
  for (int left = 1; left < 4; ++left) {
    rest[left] = automaton.add_state();
    add_digits(rest[left], kHex, rest[left - 1]);
  }
  const std::uint32_t unit = automaton.add_text(escape, "u");
  add_digits(unit, "0123456789abcefABCEF", rest[3]);
  const std::uint32_t d = automaton.add_state();
  add_digits(unit, "dD", d);
  add_digits(d, "01234567", rest[2]);
  const std::uint32_t high = automaton.add_state();
  add_digits(d, "89abAB", high);
  const std::uint32_t high_next = automaton.add_state();
  add_digits(high, kHex, high_next);
  const std::uint32_t high_last = automaton.add_state();
  add_digits(high_next, kHex, high_last);
  const std::uint32_t low = automaton.add_text(high_last, "\\u");
  const std::uint32_t low_d = automaton.add_state();
  add_digits(low, "dD", low_d);
  add_digits(low_d, "cdefCDEF", rest[2]);
}

}  // namespace gander
