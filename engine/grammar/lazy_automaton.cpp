#include "engine/grammar/lazy_automaton.h"

#include <algorithm>
#include <bitset>

#include "base/error.h"

namespace gander {
namespace {

// Nodes looked at for one mask. Usual schemas take some thousands.
constexpr std::uint64_t kMostWork = 30'000'000;

}  // namespace

LazyAutomaton::LazyAutomaton(const Pushdown& pushdown, std::span<const std::uint32_t> heights)
    : pushdown_(pushdown), heights_(heights) {
  std::bitset<257> begins;
  begins[0] = true;
  for (std::uint32_t s = 0; s < pushdown.states(); ++s) {
    for (const Pushdown::Edge& edge : pushdown.state(s).edges) {
      begins[edge.low] = begins[edge.high + 1U] = true;
    }
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    classes_ += begins[byte] ? 1 : 0;
    class_of_[byte] = static_cast<unsigned char>(classes_ - 1);
  }
  nodes_.push_back({0, 0, 0});
  reached_in_.push_back(0);
  configuration({}, false);  // kDead
  ++closure_;
  reach(pushdown.start(0), 0);
  std::vector<std::uint32_t> first;
  bool is_final = false;
  close(first, is_final);
  start_ = configuration(std::move(first), is_final);
}

std::uint32_t LazyAutomaton::node(std::uint32_t state, std::uint32_t below) {
  const auto next = static_cast<std::uint32_t>(nodes_.size());
  const auto [found, is_new] = node_ids_.try_emplace(std::uint64_t{below} << 32 | state, next);
  if (is_new) {
    nodes_.push_back({state, below, below == 0 ? 0 : nodes_[below].level + 1});
    reached_in_.push_back(0);
    bytes_ += 64;
  }
  return found->second;
}

void LazyAutomaton::reach(std::uint32_t state, std::uint32_t below) {
  const std::uint32_t id = node(state, below);
  if (reached_in_[id] == closure_) return;
  reached_in_[id] = closure_;
  reached_.push_back(id);
}

/// Follows skips, calls and ends of rules from what was reached; `nodes` becomes those with edges.
void LazyAutomaton::close(std::vector<std::uint32_t>& nodes, bool& is_final) {
  std::size_t next = 0;
  while (next < reached_.size()) {
    const std::uint32_t id = reached_[next++];
    const Node at = nodes_[id];
    const Pushdown::State& state = pushdown_.state(at.state);
    if (!state.edges.empty()) nodes.push_back(id);
    for (const std::uint32_t target : state.skips) {
      if (can_end(target, at.level)) reach(target, at.below);
    }
    for (const Pushdown::Call& call : state.calls) {
      const std::uint32_t inside = pushdown_.start(call.rule);
      if (can_end(call.target, at.level) && can_end(inside, at.level + 1)) {
        reach(inside, node(call.target, at.below));
      }
    }
    if (state.is_end && at.below == 0) is_final = true;
    if (state.is_end && at.below != 0) reach(nodes_[at.below].state, nodes_[at.below].below);
  }
  work_ += reached_.size();
  reached_.clear();
  if (work_ > kMostWork) fail("the schema can be followed in too many ways at once");
  std::ranges::sort(nodes);
}

LazyAutomaton::Configuration LazyAutomaton::configuration(std::vector<std::uint32_t> nodes,
                                                          bool is_final) {
  const auto next = static_cast<Configuration>(configurations_.size());
  const std::size_t size = nodes.size();
  const auto [found, is_new] = ids_.try_emplace({std::move(nodes), is_final}, next);
  if (is_new) {
    configurations_.push_back({found->first.first, is_final, {}, nullptr});
    bytes_ += 200 + 8 * size;
  }
  return found->second;
}

LazyAutomaton::Configuration LazyAutomaton::step(Configuration from, unsigned char byte) {
  const unsigned char which = class_of_[byte];
  if (configurations_[from].next.empty()) {
    configurations_[from].next.assign(classes_, kUnknown);
    bytes_ += classes_ * sizeof(Configuration);
  } else if (configurations_[from].next[which] != kUnknown) {
    return configurations_[from].next[which];
  }
  ++closure_;
  for (const std::uint32_t id : configurations_[from].nodes) {
    const Node at = nodes_[id];
    for (const Pushdown::Edge& edge : pushdown_.state(at.state).edges) {
      if (edge.low <= byte && byte <= edge.high && can_end(edge.target, at.level)) {
        reach(edge.target, at.below);
      }
    }
  }
  work_ += configurations_[from].nodes.size();
  std::vector<std::uint32_t> nodes;
  bool is_final = false;
  close(nodes, is_final);
  const Configuration to = configuration(std::move(nodes), is_final);
  configurations_[from].next[which] = to;
  return to;
}

LazyAutomaton::Configuration LazyAutomaton::advance(Configuration from, std::string_view bytes) {
  work_ = 0;
  for (const char byte : bytes) from = step(from, static_cast<unsigned char>(byte));
  return from;
}

std::shared_ptr<const LazyAutomaton::Mask> LazyAutomaton::mask(Configuration from,
                                                               const TokenTrie& trie) {
  if (configurations_[from].mask != nullptr) return configurations_[from].mask;
  work_ = 0;
  auto mask = std::make_shared<Mask>(trie.words);
  if (is_final(from)) (*mask)[0] |= 1;
  std::vector<Configuration> path(trie.longest + 1, kDead);  // before the byte of each depth
  path[0] = from;
  for (std::uint32_t i = 0; i < trie.nodes.size();) {
    const TokenTrie::Node& node = trie.nodes[i];
    const Configuration to = step(path[node.depth], node.byte);
    if (to == kDead) {
      i = node.after;
      continue;
    }
    path[node.depth + 1U] = to;
    if (node.token != 0) (*mask)[node.token / 64] |= std::uint64_t{1} << (node.token % 64);
    ++i;
  }
  bytes_ += trie.words * sizeof(std::uint64_t);
  configurations_[from].mask = mask;
  return mask;
}

StackList LazyAutomaton::stacks(Configuration configuration) const {
  StackList list = {configurations_[configuration].is_final ? 1U : 0U};
  for (std::uint32_t id : configurations_[configuration].nodes) {
    std::vector<std::uint32_t> stack;
    for (; id != 0; id = nodes_[id].below) stack.push_back(nodes_[id].state);
    list.push_back(static_cast<std::uint32_t>(stack.size()));
    list.insert(list.end(), stack.rbegin(), stack.rend());
  }
  return list;
}

LazyAutomaton::Configuration LazyAutomaton::find(const StackList& stacks) {
  std::vector<std::uint32_t> nodes;
  for (std::size_t i = 1; i < stacks.size();) {
    std::uint32_t id = 0;
    const std::size_t end = i + 1 + stacks[i];
    for (++i; i < end; ++i) id = node(stacks[i], id);
    nodes.push_back(id);
  }
  std::ranges::sort(nodes);
  return configuration(std::move(nodes), stacks[0] != 0);
}

}  // namespace gander
