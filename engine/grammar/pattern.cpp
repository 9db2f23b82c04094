#include "engine/grammar/pattern.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/grammar/json_characters.h"

namespace gander {
namespace {

constexpr std::uint32_t kEndless = ~std::uint32_t{0};
constexpr std::uint32_t kMostRepeats = 10'000;
constexpr int kDeepestGroups = 50;  // groups in groups

const CodeSet kDigitSet = {{'0', '9'}};
const CodeSet kWordSet = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodeSet kSpaceSet = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                           {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                           {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodeSet kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

// A parsed expression: characters, or its parts one after the other, one of them, or one repeated.
struct Node {
  enum class Kind { Set, Sequence, Choice, Repeat } kind = Kind::Sequence;
  CodeSet set = {};
  std::vector<Node> parts = {};
  std::uint32_t least = 0, most = 0;
};

// What may stand between ^ and $.
struct Branch {
  Node node;
  bool from_start = false, to_end = false;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::vector<Branch> parse() {
    std::vector<Branch> branches;
    do {
      Branch branch;
      branch.from_start = take('^');
      branch.node = sequence(0);
      branch.to_end = take('$');
      branches.push_back(std::move(branch));
    } while (take('|'));
    if (at_ < text_.size()) {
      wrong(text_[at_] == ')' ? "there is no group to close"
                              : "an anchor is understood at the ends only");
    }
    return branches;
  }

 private:
  [[noreturn]] void wrong(std::string_view what) const {
    fail("the pattern is not understood at its byte {}: {}", at_, what);
  }
  bool is_at(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(char what) {
    if (!is_at({&what, 1})) return false;
    ++at_;
    return true;
  }

  Node choice(int depth) {
    Node node{Node::Kind::Choice};
    do {
      node.parts.push_back(sequence(depth));
    } while (take('|'));
    return node;
  }

  Node sequence(int depth) {
    Node node{Node::Kind::Sequence};
    while (at_ < text_.size() && text_[at_] != '|' && text_[at_] != ')' && text_[at_] != '^' &&
           text_[at_] != '$') {
      node.parts.push_back(quantified(depth));
    }
    return node;
  }

  Node quantified(int depth) {
    Node node = atom(depth);
    std::uint32_t least = 1;
    std::uint32_t most = 1;
    if (take('*')) {
      least = 0, most = kEndless;
    } else if (take('+')) {
      most = kEndless;
    } else if (take('?')) {
      least = 0;
    } else if (take('{')) {
      least = most = number();
      if (take(',')) most = is_at("}") ? kEndless : number();
      if (!take('}')) wrong("'}' is missing");
      if (most < least) wrong("the range is empty");
    } else {
      return node;
    }
    take('?');  // how eager it is does not change what it matches
    if (is_at("*") || is_at("+") || is_at("?") || is_at("{")) wrong("there is nothing to repeat");
    Node repeat{Node::Kind::Repeat};
    repeat.parts.push_back(std::move(node));
    repeat.least = least;
    repeat.most = most;
    return repeat;
  }

  std::uint32_t number() {
    const std::size_t begin = at_;
    std::uint32_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = value * 10 + static_cast<std::uint32_t>(text_[at_++] - '0');
      if (value > kMostRepeats) wrong("the number is too large");
    }
    if (at_ == begin) wrong("a number is missing");
    return value;
  }

  Node atom(int depth) {
    if (take('(')) {
      if (depth == kDeepestGroups) wrong("the groups are nested too deeply");
      if (is_at("?:")) {
        at_ += 2;
      } else if (is_at("?")) {
        wrong("look-around and named groups are not supported");
      }
      Node node = choice(depth + 1);
      if (is_at("^") || is_at("$")) wrong("an anchor is understood at the ends only");
      if (!take(')')) wrong("')' is missing");
      return node;
    }
    Node node{Node::Kind::Set};
    if (take('[')) {
      node.set = character_class();
    } else if (take('.')) {
      node.set = complement(kLineEnds);
    } else if (is_at("*") || is_at("+") || is_at("?") || is_at("{")) {
      wrong("there is nothing to repeat");
    } else {
      node.set = character();
    }
    return node;
  }

  CodeSet character_class() {
    const bool negated = take('^');
    CodeSet set;
    while (!take(']')) {
      if (at_ == text_.size()) wrong("']' is missing");
      CodeSet low = character(true);
      if (is_at("-") && !is_at("-]")) {
        ++at_;
        if (at_ == text_.size()) wrong("']' is missing");
        const CodeSet high = character(true);
        if (low.size() != 1 || high.size() != 1 || low[0].first != low[0].second ||
            high[0].first != high[0].second || low[0].first > high[0].first) {
          wrong("the range is empty");
        }
        low[0].second = high[0].first;
      }
      set.insert(set.end(), low.begin(), low.end());
    }
    return negated ? complement(std::move(set)) : set;
  }

  CodeSet character(bool in_class = false) {
    if (!take('\\')) {
      const std::uint32_t code = code_point();
      return {{code, code}};
    }
    if (at_ == text_.size()) wrong("nothing follows the backslash");
    const char escape = text_[at_++];
    const auto one = [](std::uint32_t code) { return CodeSet{{code, code}}; };
    switch (escape) {
      case 'd':
        return kDigitSet;
      case 'D':
        return complement(kDigitSet);
      case 'w':
        return kWordSet;
      case 'W':
        return complement(kWordSet);
      case 's':
        return kSpaceSet;
      case 'S':
        return complement(kSpaceSet);
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x':
        return one(hexadecimal(2));
      case 'u':
        return one(hexadecimal(4));
      case 'b':
        if (in_class) return one('\b');
        break;
      default:
        break;
    }
    const bool is_letter = (escape >= 'a' && escape <= 'z') || (escape >= 'A' && escape <= 'Z');
    if (is_letter || (escape >= '0' && escape <= '9')) {
      wrong("this escape is not supported");
    }
    --at_;
    const std::uint32_t code = code_point();
    return {{code, code}};
  }

  std::uint32_t hexadecimal(int digits) {
    std::uint32_t value = 0;
    for (; digits > 0; --digits) {
      const char c = at_ < text_.size() ? text_[at_] : ' ';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) wrong("hexadecimal digits are missing");
      value = value * 16 + static_cast<std::uint32_t>(digit);
      ++at_;
    }
    if (value >= 0xD800 && value <= 0xDFFF) wrong("half of a surrogate pair is no character");
    return value;
  }

  // The text is valid UTF-8: it came out of a JSON parser.
  std::uint32_t code_point() {
    const auto byte = [&](std::size_t i) {
      return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0U;
    };
    const unsigned lead = byte(0);
    const std::size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    std::uint32_t code = size == 1 ? lead : lead & (0x7FU >> size);
    for (std::size_t i = 1; i < size; ++i) code = code << 6 | (byte(i) & 0x3FU);
    at_ = std::min(at_ + size, text_.size());
    return code;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// A pattern as an automaton over characters: a call of number i reads one of sets[i].
struct CharacterAutomaton {
  Pushdown graph;
  std::vector<CodeSet> sets;

  // In order, once: each is used for every number of characters read.
  void add_set(std::uint32_t from, CodeSet set, std::uint32_t to) {
    graph.add_call(from, static_cast<std::uint32_t>(sets.size()), to);
    sets.push_back(complement(complement(std::move(set))));
  }
};

std::uint32_t add_node(CharacterAutomaton& automaton, std::uint32_t from, const Node& node) {
  switch (node.kind) {
    case Node::Kind::Set: {
      const std::uint32_t to = automaton.graph.add_state();
      automaton.add_set(from, node.set, to);
      return to;
    }
    case Node::Kind::Sequence:
      for (const Node& part : node.parts) from = add_node(automaton, from, part);
      return from;
    case Node::Kind::Choice: {
      const std::uint32_t to = automaton.graph.add_state();
      for (const Node& part : node.parts) {
        const std::uint32_t begin = automaton.graph.add_state();
        automaton.graph.add_skip(from, begin);
        automaton.graph.add_skip(add_node(automaton, begin, part), to);
      }
      return to;
    }
    case Node::Kind::Repeat: {
      const Node& part = node.parts[0];
      for (std::uint32_t i = 0; i < node.least; ++i) {
        const std::uint32_t begin = automaton.graph.add_state();
        automaton.graph.add_skip(from, begin);
        from = add_node(automaton, begin, part);
      }
      const std::uint32_t to = automaton.graph.add_state();
      automaton.graph.add_skip(from, to);
      if (node.most == kEndless) {
        const std::uint32_t begin = automaton.graph.add_state();
        automaton.graph.add_skip(to, begin);
        automaton.graph.add_skip(add_node(automaton, begin, part), to);
        return to;
      }
      for (std::uint32_t i = node.least; i < node.most; ++i) {
        const std::uint32_t begin = automaton.graph.add_state();
        automaton.graph.add_skip(from, begin);
        from = add_node(automaton, begin, part);
        automaton.graph.add_skip(from, to);
      }
      return to;
    }
  }
  return from;
}

// Any characters, from a state on and back to it.
void add_anything(CharacterAutomaton& automaton, std::uint32_t state) {
  automaton.add_set(state, {{0, kLastCodePoint}}, state);
}

// From its state 0 to its state 1.
CharacterAutomaton characters_of(const std::vector<Branch>& branches) {
  CharacterAutomaton automaton;
  Pushdown& graph = automaton.graph;
  const std::uint32_t from = graph.add_state();
  const std::uint32_t to = graph.add_state();
  for (const Branch& branch : branches) {
    const std::uint32_t begin = graph.add_state();
    graph.add_skip(from, begin);
    if (!branch.from_start) add_anything(automaton, begin);
    const std::uint32_t first = graph.add_state();
    graph.add_skip(begin, first);
    const std::uint32_t last = add_node(automaton, first, branch.node);
    const std::uint32_t end = graph.add_state();
    graph.add_skip(last, end);
    if (!branch.to_end) add_anything(automaton, end);
    graph.add_skip(end, to);
  }
  return automaton;
}

}  // namespace

std::uint32_t add_pattern(Pushdown& automaton, std::uint32_t from, std::string_view pattern,
                          const Lengths& lengths) {
  const CharacterAutomaton characters = characters_of(Parser(pattern).parse());
  const std::uint32_t to = automaton.add_state();
  // Each state here is one there together with how many characters were read, as far as it matters.
  using Place = std::pair<std::uint32_t, std::uint32_t>;
  std::map<Place, std::uint32_t> known = {{{0, 0}, from}};
  std::vector<Place> waiting = {{0, 0}};
  const auto state_at = [&](const Place& place) {
    const auto [found, is_new] = known.try_emplace(place, 0);
    if (is_new) {
      found->second = automaton.add_state();
      waiting.push_back(place);
    }
    return found->second;
  };
  while (!waiting.empty()) {
    const auto [inside, read] = waiting.back();
    waiting.pop_back();
    const std::uint32_t state = known.at({inside, read});
    if (inside == 1 && read >= lengths.least) automaton.add_skip(state, to);
    const Pushdown::State& there = characters.graph.state(inside);
    for (const std::uint32_t target : there.skips) {
      automaton.add_skip(state, state_at({target, read}));
    }
    if (read == lengths.most) continue;
    const std::uint32_t next =
        lengths.most == Lengths::kNoLimit ? std::min(read + 1, lengths.least) : read + 1;
    for (const Pushdown::Call& call : there.calls) {
      add_characters(automaton, state, characters.sets[call.rule], state_at({call.target, next}));
    }
  }
  return to;
}

}  // namespace gander
