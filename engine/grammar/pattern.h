#pragma once

#include <cstdint>
#include <string_view>

#include "engine/grammar/pushdown.h"

namespace gander {

/// Adds the strings that a regular expression matches, as they stand between the quotes of a JSON
/// string; returns the state after them. The expression is ECMA-262's as JSON Schema uses it: it
/// may match anywhere unless `^` and `$` say otherwise. Literals, `.`, classes, groups, `|`, `*`,
/// `+`,
/// `?`, `{n,m}`, `\d \w \s` and their opposites, `\uXXXX`; anchors at the very ends only; no
/// look-around and no references to groups. Characters that JSON must escape have one escape each.
/// Throws Error that says what is wrong and where.
std::uint32_t add_pattern(Pushdown& automaton, std::uint32_t from, std::string_view pattern);

/// Adds one character of a JSON string, in any of the forms JSON knows, between two states.
void add_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to);

}  // namespace gander
