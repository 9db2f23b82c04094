#pragma once

#include <cstdint>
#include <vector>

#include "engine/grammar/pushdown.h"

namespace gander {

inline constexpr std::uint32_t kLastCodePoint = 0x10FFFF;

/// Code points, as ranges in any order.
using CodeSet = std::vector<CodePoints>;

/// All others, as ranges in ascending order that do not touch.
CodeSet complement(CodeSet set);

/// Adds the characters of a set, whose ranges do not overlap, as they stand in a JSON string,
/// between two states: each in one form.
void add_characters(Pushdown& automaton, std::uint32_t from, const CodeSet& set, std::uint32_t to);

/// Adds one character of a JSON string that stands there without an escape, between two states.
void add_plain_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to);

/// Adds one character of a JSON string, in any of the forms JSON knows, between two states.
void add_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to);

}  // namespace gander
