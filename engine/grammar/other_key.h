#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/grammar/pushdown.h"

namespace gander {

/// Adds a JSON key without escapes that is none of these names (at least one), between two states:
/// where one of them is being written, other characters lead away from it.
void add_other_key(Pushdown& automaton, std::uint32_t from, const std::vector<std::string>& names,
                   std::uint32_t to);

}  // namespace gander
