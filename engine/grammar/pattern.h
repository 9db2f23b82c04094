#pragma once

#include <cstdint>
#include <string_view>

#include "engine/grammar/pushdown.h"

namespace gander {

/// How many characters a string has.
struct Lengths {
  static constexpr std::uint32_t kNoLimit = ~std::uint32_t{0};
  std::uint32_t least = 0, most = kNoLimit;
};

/// Adds the strings that a regular expression matches, as they stand between the quotes of a JSON
/// string; returns the state after them. The expression is ECMA-262's as JSON Schema uses it: it
/// may match anywhere unless `^` and `$` say otherwise. Literals, `.`, classes, groups, `|`, `*`,
/// `+`,
/// `?`, `{n,m}`, `\d \w \s` and their opposites, `\uXXXX`; anchors at the very ends only; no
/// look-around and no references to groups. Characters that JSON must escape have one escape each.
/// Only strings of these lengths are added. Throws Error that says what is wrong and where.
std::uint32_t add_pattern(Pushdown& automaton, std::uint32_t from, std::string_view pattern,
                          const Lengths& lengths = {});

}  // namespace gander
