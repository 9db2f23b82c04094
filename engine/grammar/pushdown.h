#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gander {

/// A range of Unicode code points, both ends in it.
using CodePoints = std::pair<std::uint32_t, std::uint32_t>;

/// A non-deterministic automaton over bytes that can call parts of itself, its rules, and come
/// back: what recursion in a schema needs. Text is accepted when rule 0 ends.
///
/// A call costs a level of nesting, of which there are kLevels. heights() tells for each state how
/// many levels more are needed at least to come to its rule's end. Whoever only goes where these
/// are left can always complete the text; so there are no dead ends.
class Pushdown {
 public:
  struct Edge {
    unsigned char low, high;
    std::uint32_t target;
  };
  struct Call {
    std::uint32_t rule, target;
  };
  struct State {
    std::vector<Edge> edges;
    std::vector<std::uint32_t> skips;  ///< states that can be reached without a byte
    std::vector<Call> calls;
    bool is_end = false;  ///< of its rule
  };

  static constexpr std::uint32_t kLevels = 64;
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};

  /// Throws Error when there are too many: the schema would take too much memory.
  std::uint32_t add_state();
  /// A rule that begins at a new state.
  std::uint32_t add_rule();
  void add_edge(std::uint32_t from, unsigned char low, unsigned char high, std::uint32_t to);
  /// The UTF-8 of a range of code points; surrogates are left out.
  void add_edge(std::uint32_t from, CodePoints range, std::uint32_t to);
  void add_byte(std::uint32_t from, char byte, std::uint32_t to);
  void add_skip(std::uint32_t from, std::uint32_t to);
  void add_call(std::uint32_t from, std::uint32_t rule, std::uint32_t to);
  /// These bytes; returns the state after them.
  std::uint32_t add_text(std::uint32_t from, std::string_view text);
  /// Marks the end of a rule.
  void end_rule(std::uint32_t state) { states_[state].is_end = true; }

  const State& state(std::uint32_t index) const { return states_[index]; }
  std::uint32_t states() const { return static_cast<std::uint32_t>(states_.size()); }
  std::uint32_t start(std::uint32_t rule) const { return rules_[rule]; }
  std::uint32_t rules() const { return static_cast<std::uint32_t>(rules_.size()); }

  /// Of each state; kNever where no text leads to its rule's end.
  std::vector<std::uint32_t> heights() const;
  /// A rule that calls itself before any byte, so that closures would not end; -1: none.
  std::int64_t left_recursive_rule() const;

 private:
  void add_utf8(std::uint32_t from, CodePoints range, unsigned continuations, unsigned lead,
                std::uint32_t to);

  std::vector<State> states_;
  std::vector<std::uint32_t> rules_;
};

}  // namespace gander
