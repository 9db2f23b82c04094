#include "engine/grammar/number.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/error.h"

namespace gander {
namespace {

int digit_at(const std::string& digits, std::size_t index) {
  return index < digits.size() ? digits[index] - '0' : 0;
}

/// Numbers without a sign that have as many digits before the point as it is told. A state is how
/// many digits were written, whether they are all equal to a bound's (only then does the bound
/// matter to the next one), and what they leave when they are divided.
class Magnitudes {
 public:
  Magnitudes(Pushdown& automaton, const Bound& low, const std::optional<Bound>& high,
             const NumberKind& kind, std::uint32_t to)
      : automaton_(automaton), low_(low), high_(high), kind_(kind), to_(to) {}

  void add(std::uint32_t from) {
    const std::size_t most =
        high_ ? std::min<std::size_t>(high_->whole.size(), kMostDigits) : kMostDigits;
    for (std::size_t size = low_.whole.size(); size <= most; ++size) {
      states_.clear();
      size_ = size;
      const bool at_low = size == low_.whole.size();
      const bool at_high = high_ && size == high_->whole.size();
      automaton_.add_skip(from, state(0, 0, at_low, at_high));
    }
  }

 private:
  std::uint32_t state(std::size_t written, std::uint32_t remainder, bool at_low, bool at_high) {
    const std::size_t key =
        (written * kind_.multiple_of + remainder) * 4 + (at_low ? 2 : 0) + (at_high ? 1 : 0);
    const auto [found, is_new] = states_.try_emplace(key, 0);
    if (!is_new) return found->second;
    const std::uint32_t made = automaton_.add_state();
    states_[key] = made;
    if (written < size_) {
      const int least = written == 0 && size_ > 1 ? 1 : 0;
      add_digits(made, written, remainder, at_low, at_high, least, digit_at(low_.whole, written),
                 high_ ? digit_at(high_->whole, written) : 9);
      return made;
    }
    if (remainder == 0 && may_end(written - size_, at_low, at_high)) {
      automaton_.add_skip(made, to_);
    }
    if (kind_.integer || written == kMostDigits) return made;
    std::uint32_t before = made;
    if (written == size_) before = automaton_.add_text(made, ".");
    const std::size_t place = written - size_;
    add_digits(before, written, 0, at_low, at_high, 0, digit_at(low_.fraction, place),
               high_ ? digit_at(high_->fraction, place) : 9);
    return made;
  }

  void add_digits(std::uint32_t from, std::size_t written, std::uint32_t remainder, bool at_low,
                  bool at_high, int least, int low_digit, int high_digit) {
    const int first = at_low ? std::max(least, low_digit) : least;
    const int last = at_high ? high_digit : 9;
    for (int digit = first; digit <= last;) {
      const bool next_low = at_low && digit == low_digit;
      const bool next_high = at_high && digit == high_digit;
      const std::uint32_t next_remainder =
          (remainder * 10 + static_cast<std::uint32_t>(digit)) % kind_.multiple_of;
      int end = digit;  // of those that lead to the same state
      if (!next_low && !next_high && kind_.multiple_of == 1) {
        while (end < last && !(at_high && end + 1 == high_digit)) ++end;
      }
      automaton_.add_edge(from, static_cast<unsigned char>('0' + digit),
                          static_cast<unsigned char>('0' + end),
                          state(written + 1, next_remainder, next_low, next_high));
      digit = end + 1;
    }
  }

  // With `place` digits after the point; what is not written is zero.
  bool may_end(std::size_t place, bool at_low, bool at_high) const {
    if (at_low) {
      const bool is_less = place < low_.fraction.size();
      if (is_less || low_.is_exclusive) return false;
    }
    if (at_high) {
      const bool is_equal = place >= high_->fraction.size();
      if (is_equal && high_->is_exclusive) return false;
    }
    return true;
  }

  Pushdown& automaton_;
  const Bound& low_;
  const std::optional<Bound>& high_;
  NumberKind kind_;
  std::uint32_t to_;
  std::size_t size_ = 0;
  std::unordered_map<std::size_t, std::uint32_t> states_;
};

bool is_zero(const Bound& bound) {
  return bound.whole == "0" && bound.fraction.empty();
}

}  // namespace

Bound parse_bound(std::string_view number, bool is_exclusive) {
  Bound bound;
  bound.is_exclusive = is_exclusive;
  bound.is_negative = number.starts_with('-');
  if (bound.is_negative) number.remove_prefix(1);
  const std::size_t point = std::min(number.find('.'), number.size());
  bound.whole = number.substr(0, point);
  bound.fraction = number.substr(std::min(point + 1, number.size()));
  const auto is_digits = [](const std::string& text) {
    return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  };
  while (bound.fraction.ends_with('0')) bound.fraction.pop_back();
  if (!is_digits(bound.whole) || !is_digits(bound.fraction) || bound.whole.empty() ||
      (!bound.fraction.empty() &&
       bound.whole.size() + bound.fraction.size() > kMostDigits + (bound.whole == "0" ? 1 : 0))) {
    fail("the bound {} is not supported: it needs at most {} digits and no exponent", number,
         kMostDigits);
  }
  if (is_zero(bound)) bound.is_negative = false;
  return bound;
}

void add_numbers(Pushdown& automaton, std::uint32_t from, const std::optional<Bound>& low,
                 const std::optional<Bound>& high, const NumberKind& kind, std::uint32_t to) {
  const Bound zero;
  const bool low_is_negative = !low || low->is_negative;
  if (!high || !high->is_negative) {
    Magnitudes(automaton, low_is_negative ? zero : *low, high, kind, to).add(from);
  }
  if (!low_is_negative) return;
  // Mirrored; -0 is no number that anybody asks for.
  Bound nearest = zero;
  nearest.is_exclusive = true;
  if (high && high->is_negative) nearest = *high;
  Magnitudes(automaton, nearest, low, kind, to).add(automaton.add_text(from, "-"));
}

}  // namespace gander
