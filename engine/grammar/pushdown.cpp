#include "engine/grammar/pushdown.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace gander {
namespace {

constexpr std::size_t kMostStates = 100'000;

}  // namespace

std::uint32_t Pushdown::add_state() {
  if (states_.size() == kMostStates) {
    fail("the schema is too large: it takes more than {} states; give smaller bounds", kMostStates);
  }
  states_.emplace_back();
  return states() - 1;
}

std::uint32_t Pushdown::add_rule() {
  rules_.push_back(add_state());
  return rules() - 1;
}

void Pushdown::add_edge(std::uint32_t from, unsigned char low, unsigned char high,
                        std::uint32_t to) {
  states_[from].edges.push_back({low, high, to});
}

void Pushdown::add_edge(std::uint32_t from, CodePoints range, std::uint32_t to) {
  struct Length {
    CodePoints all;
    unsigned continuations, lead;
  };
  static constexpr Length kLengths[] = {{{0, 0x7F}, 0, 0},
                                        {{0x80, 0x7FF}, 1, 0xC0},
                                        {{0x800, 0xD7FF}, 2, 0xE0},
                                        {{0xE000, 0xFFFF}, 2, 0xE0},
                                        {{0x10000, 0x10FFFF}, 3, 0xF0}};
  for (const Length& length : kLengths) {
    const CodePoints part = {std::max(range.first, length.all.first),
                             std::min(range.second, length.all.second)};
    if (part.first <= part.second) add_utf8(from, part, length.continuations, length.lead, to);
  }
}

// The bits above the last 6 n are in the byte read here, after `lead`; the range is cut where these
// change, so that what follows is a range again.
void Pushdown::add_utf8(std::uint32_t from, CodePoints range, unsigned continuations, unsigned lead,
                        std::uint32_t to) {
  const unsigned shift = 6 * continuations;
  const std::uint32_t rest = (1U << shift) - 1;
  auto [low, high] = range;
  const auto add = [&](std::uint32_t first, std::uint32_t last, CodePoints tail) {
    const std::uint32_t after = continuations == 0 ? to : add_state();
    add_edge(from, static_cast<unsigned char>(lead | first),
             static_cast<unsigned char>(lead | last), after);
    if (continuations > 0) add_utf8(after, tail, continuations - 1, 0x80, to);
  };
  std::uint32_t first = low >> shift;
  std::uint32_t last = high >> shift;
  if (first == last) return add(first, last, {low & rest, high & rest});
  if ((low & rest) != 0) add(first, first, {low & rest, rest}), ++first;
  if ((high & rest) != rest) add(last, last, {0, high & rest}), --last;
  if (first <= last) add(first, last, {0, rest});
}

void Pushdown::add_byte(std::uint32_t from, char byte, std::uint32_t to) {
  add_edge(from, static_cast<unsigned char>(byte), static_cast<unsigned char>(byte), to);
}

void Pushdown::add_skip(std::uint32_t from, std::uint32_t to) {
  states_[from].skips.push_back(to);
}

void Pushdown::add_call(std::uint32_t from, std::uint32_t rule, std::uint32_t to) {
  states_[from].calls.push_back({rule, to});
}

std::uint32_t Pushdown::add_text(std::uint32_t from, std::string_view text) {
  for (const char byte : text) {
    const std::uint32_t next = add_state();
    add_byte(from, byte, next);
    from = next;
  }
  return from;
}

// height(s) = min of 0 at an end, height(t) over edges and skips, and of
// max(1 + height(start of r), height(t)) over calls of r. None of these is less than what it is
// made of, so that states come to their heights in ascending order (Knuth's generalisation of
// Dijkstra).
std::vector<std::uint32_t> Pushdown::heights() const {
  std::vector<std::vector<std::uint32_t>> sources(states());                   // by edges and skips
  std::vector<std::vector<std::pair<std::uint32_t, Call>>> callers(states());  // by calls' parts
  std::vector<std::uint32_t> heights(states(), kNever);
  std::vector<std::vector<std::uint32_t>> waiting(kLevels + 1);  // by height
  for (std::uint32_t s = 0; s < states(); ++s) {
    for (const Edge& edge : states_[s].edges) sources[edge.target].push_back(s);
    for (const std::uint32_t target : states_[s].skips) sources[target].push_back(s);
    for (const Call& call : states_[s].calls) {
      callers[call.target].emplace_back(s, call);
      callers[rules_[call.rule]].emplace_back(s, call);
    }
    if (states_[s].is_end) waiting[0].push_back(s);
  }
  for (std::uint32_t height = 0; height <= kLevels; ++height) {
    while (!waiting[height].empty()) {
      const std::uint32_t s = waiting[height].back();
      waiting[height].pop_back();
      if (heights[s] != kNever) continue;
      heights[s] = height;
      for (const std::uint32_t source : sources[s]) waiting[height].push_back(source);
      for (const auto& [source, call] : callers[s]) {
        const std::uint32_t inside = heights[rules_[call.rule]];
        const std::uint32_t after = heights[call.target];
        if (inside == kNever || after == kNever || inside == kLevels) continue;
        waiting[std::max(inside + 1, after)].push_back(source);
      }
    }
  }
  return heights;
}

std::int64_t Pushdown::left_recursive_rule() const {
  enum class Mark : std::uint8_t { New, Open, Done };
  std::vector<Mark> marks(rules(), Mark::New);
  struct Visit {
    std::uint32_t rule;
    std::vector<std::uint32_t> called;  // before any byte
  };
  const auto visit = [&](std::uint32_t rule) {
    marks[rule] = Mark::Open;
    Visit result{rule, {}};
    std::vector<std::uint32_t> reached = {rules_[rule]};
    std::vector<bool> is_reached(states());
    is_reached[rules_[rule]] = true;
    for (std::size_t i = 0; i < reached.size(); ++i) {
      const State& state = states_[reached[i]];
      for (const Call& call : state.calls) result.called.push_back(call.rule);
      for (const std::uint32_t target : state.skips) {
        if (!is_reached[target]) reached.push_back(target);
        is_reached[target] = true;
      }
    }
    return result;
  };
  for (std::uint32_t root = 0; root < rules(); ++root) {
    if (marks[root] != Mark::New) continue;
    std::vector<Visit> path = {visit(root)};
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.called.empty()) {
        marks[top.rule] = Mark::Done;
        path.pop_back();
        continue;
      }
      const std::uint32_t next = top.called.back();
      top.called.pop_back();
      if (marks[next] == Mark::Open) return next;
      if (marks[next] == Mark::New) path.push_back(visit(next));
    }
  }
  return -1;
}

}  // namespace gander
