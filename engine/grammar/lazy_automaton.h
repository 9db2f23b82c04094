#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/grammar/pushdown.h"
#include "engine/grammar/token_trie.h"

namespace gander {

/// Where the states of an automaton's stacks are after some text, as a list that does not depend on
/// what a LazyAutomaton numbered how: for each stack its states from the bottom up, each after its
/// count.
using StackList = std::vector<std::uint32_t>;

/// What is known of a Pushdown's deterministic counterpart: a configuration is a set of stacks, one
/// for each way the text so far can be understood. Configurations, the steps between them and their
/// masks are computed when they are first needed, and kept. For one thread at a time.
class LazyAutomaton {
 public:
  using Configuration = std::uint32_t;
  using Mask = std::vector<std::uint64_t>;

  /// Both must outlive it.
  LazyAutomaton(const Pushdown& pushdown, std::span<const std::uint32_t> heights);

  /// No text goes on from here.
  static constexpr Configuration kDead = 0;
  Configuration start() const { return start_; }
  /// After more bytes. This and mask() throw Error where a text can be understood in too many ways.
  Configuration advance(Configuration configuration, std::string_view bytes);
  /// Whether the text may end here.
  bool is_final(Configuration configuration) const {
    return configurations_[configuration].is_final;
  }

  /// The tokens that can follow, and bit 0 where the text may end.
  std::shared_ptr<const Mask> mask(Configuration configuration, const TokenTrie& trie);

  StackList stacks(Configuration configuration) const;
  Configuration find(const StackList& stacks);

  /// Bytes it has come to take, about.
  std::size_t bytes() const { return bytes_; }

 private:
  // A state and the stack below it: `below` is where its rule returns to, 0 the bottom.
  struct Node {
    std::uint32_t state, below, level;
  };
  struct Known {
    std::vector<std::uint32_t> nodes;  // those from which bytes lead on, ascending
    bool is_final = false;
    std::vector<Configuration> next;  // by class of bytes; kUnknown
    std::shared_ptr<const Mask> mask;
  };
  static constexpr Configuration kUnknown = ~Configuration{0};

  std::uint32_t node(std::uint32_t state, std::uint32_t below);
  void reach(std::uint32_t state, std::uint32_t below);
  Configuration step(Configuration configuration, unsigned char byte);
  void close(std::vector<std::uint32_t>& nodes, bool& is_final);
  Configuration configuration(std::vector<std::uint32_t> nodes, bool is_final);
  bool can_end(std::uint32_t state, std::uint32_t level) const {
    return heights_[state] != Pushdown::kNever && level + heights_[state] <= Pushdown::kLevels;
  }

  const Pushdown& pushdown_;
  std::span<const std::uint32_t> heights_;
  std::array<unsigned char, 256> class_of_{};  // bytes that no edge tells apart
  std::size_t classes_ = 0;

  std::vector<Node> nodes_;
  std::unordered_map<std::uint64_t, std::uint32_t> node_ids_;
  std::vector<Known> configurations_;
  std::map<std::pair<std::vector<std::uint32_t>, bool>, Configuration> ids_;
  Configuration start_ = kDead;
  std::size_t bytes_ = 0;
  std::uint64_t work_ = 0;  // for one mask or advance

  // Of the closure under way.
  std::vector<std::uint32_t> reached_;
  std::vector<std::uint32_t> reached_in_;  // by node: the closure that reached it last
  std::uint32_t closure_ = 0;
};

}  // namespace gander
