#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/grammar/pushdown.h"

namespace gander {

/// A bound of numbers: decimal digits before and after the point.
struct Bound {
  bool is_negative = false;
  std::string whole = "0";  ///< without leading zeros
  std::string fraction;     ///< without trailing zeros
  bool is_exclusive = false;
};

/// The bound that a JSON number in decimal digits says. Throws Error for one that has an exponent
/// or more digits than JSON numbers keep.
Bound parse_bound(std::string_view number, bool is_exclusive);

struct NumberKind {
  bool integer = false;           ///< without a fraction
  std::uint32_t multiple_of = 1;  ///< other than 1 only of integers; at most kLargestDivisor
};
inline constexpr std::uint32_t kLargestDivisor = 1'000'000;

/// Adds JSON numbers between two bounds (none: unbounded), between two states: without exponent,
/// with at most kMostDigits digits, so that a double tells any two of them apart and no reader
/// finds one out of bounds. Each divisor takes that many states for each digit.
void add_numbers(Pushdown& automaton, std::uint32_t from, const std::optional<Bound>& low,
                 const std::optional<Bound>& high, const NumberKind& kind, std::uint32_t to);

inline constexpr unsigned kMostDigits = 15;

}  // namespace gander
