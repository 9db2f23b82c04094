#include "engine/grammar/pattern.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"

namespace gander {
namespace {

constexpr std::uint32_t kLast = 0x10FFFF;
constexpr std::uint32_t kEndless = ~std::uint32_t{0};
constexpr std::uint32_t kMostRepeats = 10'000;
constexpr int kDeepestGroups = 50;  // groups in groups

using CodeSet = std::vector<CodePoints>;

CodeSet complement(CodeSet set) {
  std::ranges::sort(set);
  CodeSet result;
  std::uint32_t next = 0;
  for (const auto& [low, high] : set) {
    if (low > next) result.emplace_back(next, low - 1);
    next = std::max(next, high + 1);
  }
  if (next <= kLast) result.emplace_back(next, kLast);
  return result;
}

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

// Code points as JSON has them in a string, each in one form.
void add_set(Pushdown& automaton, std::uint32_t from, const CodeSet& set, std::uint32_t to) {
  for (const CodePoints& range : complement(complement(set))) {
    for (std::uint32_t code = range.first; code <= std::min(range.second, 0x1FU); ++code) {
      static constexpr std::string_view kShort = "\bb\tt\nn\ff\rr";
      const std::size_t at = kShort.find(static_cast<char>(code));
      const std::string escape = code != 0 && at != std::string_view::npos
                                     ? fmt::format("\\{}", kShort[at + 1])
                                     : fmt::format("\\u{:04x}", code);
      automaton.add_skip(automaton.add_text(from, escape), to);
    }
    std::uint32_t low = std::max(range.first, 0x20U);
    for (const std::uint32_t special : {std::uint32_t{'"'}, std::uint32_t{'\\'}}) {
      if (low > special || special > range.second) continue;
      const char escape[] = {'\\', static_cast<char>(special)};
      automaton.add_skip(automaton.add_text(from, {escape, 2}), to);
      if (low < special) automaton.add_edge(from, CodePoints{low, special - 1}, to);
      low = special + 1;
    }
    if (low <= range.second) automaton.add_edge(from, CodePoints{low, range.second}, to);
  }
}

std::uint32_t add_node(Pushdown& automaton, std::uint32_t from, const Node& node) {
  switch (node.kind) {
    case Node::Kind::Set: {
      const std::uint32_t to = automaton.add_state();
      add_set(automaton, from, node.set, to);
      return to;
    }
    case Node::Kind::Sequence:
      for (const Node& part : node.parts) from = add_node(automaton, from, part);
      return from;
    case Node::Kind::Choice: {
      const std::uint32_t to = automaton.add_state();
      for (const Node& part : node.parts) {
        const std::uint32_t begin = automaton.add_state();
        automaton.add_skip(from, begin);
        automaton.add_skip(add_node(automaton, begin, part), to);
      }
      return to;
    }
    case Node::Kind::Repeat: {
      const Node& part = node.parts[0];
      for (std::uint32_t i = 0; i < node.least; ++i) {
        const std::uint32_t begin = automaton.add_state();
        automaton.add_skip(from, begin);
        from = add_node(automaton, begin, part);
      }
      const std::uint32_t to = automaton.add_state();
      automaton.add_skip(from, to);
      if (node.most == kEndless) {
        const std::uint32_t begin = automaton.add_state();
        automaton.add_skip(to, begin);
        automaton.add_skip(add_node(automaton, begin, part), to);
        return to;
      }
      for (std::uint32_t i = node.least; i < node.most; ++i) {
        const std::uint32_t begin = automaton.add_state();
        automaton.add_skip(from, begin);
        from = add_node(automaton, begin, part);
        automaton.add_skip(from, to);
      }
      return to;
    }
  }
  return from;
}

// Any characters, from a state on and back to it.
void add_anything(Pushdown& automaton, std::uint32_t state) {
  add_set(automaton, state, {{0, kLast}}, state);
}

}  // namespace

std::uint32_t add_pattern(Pushdown& automaton, std::uint32_t from, std::string_view pattern) {
  const std::vector<Branch> branches = Parser(pattern).parse();
  const std::uint32_t to = automaton.add_state();
  for (const Branch& branch : branches) {
    const std::uint32_t begin = automaton.add_state();
    automaton.add_skip(from, begin);
    if (!branch.from_start) add_anything(automaton, begin);
    const std::uint32_t first = automaton.add_state();
    automaton.add_skip(begin, first);
    const std::uint32_t last = add_node(automaton, first, branch.node);
    const std::uint32_t end = automaton.add_state();
    automaton.add_skip(last, end);
    if (!branch.to_end) add_anything(automaton, end);
    automaton.add_skip(end, to);
  }
  return to;
}

void add_character(Pushdown& automaton, std::uint32_t from, std::uint32_t to) {
  for (const CodePoints& range :
       {CodePoints{0x20, '"' - 1}, CodePoints{'"' + 1, '\\' - 1}, CodePoints{'\\' + 1, kLast}}) {
    automaton.add_edge(from, range, to);
  }
  const std::uint32_t escape = automaton.add_text(from, "\\");
  for (const char letter : std::string_view("\"\\/bfnrt")) {
    automaton.add_edge(escape, static_cast<unsigned char>(letter),
                       static_cast<unsigned char>(letter), to);
  }
  // A code unit in four hexadecimal digits; the halves of a surrogate pair only together.
  const auto add_digits = [&](std::uint32_t at, std::string_view digits, std::uint32_t target) {
    for (const char digit : digits) {
      const auto byte = static_cast<unsigned char>(digit);
      automaton.add_edge(at, byte, byte, target);
    }
  };
  static constexpr std::string_view kHex = "0123456789abcdefABCDEF";
  std::uint32_t rest[4];  // so many digits are left
  rest[0] = to;
  for (int left = 1; left < 4; ++left) {
    rest[left] = automaton.add_state();
    add_digits(rest[left], kHex, rest[left - 1]);
  }
  const std::uint32_t unit = automaton.add_text(escape, "u");
  add_digits(unit, "0123456789abcefABCEF", rest[3]);
  const std::uint32_t d = automaton.add_state();
  add_digits(unit, "dD", d);
  add_digits(d, "01234567", rest[2]);
  const std::uint32_t high = automaton.add_state();
  add_digits(d, "89abAB", high);
  const std::uint32_t high_next = automaton.add_state();
  add_digits(high, kHex, high_next);
  const std::uint32_t high_last = automaton.add_state();
  add_digits(high_next, kHex, high_last);
  const std::uint32_t low = automaton.add_text(high_last, "\\u");
  const std::uint32_t low_d = automaton.add_state();
  add_digits(low, "dD", low_d);
  add_digits(low_d, "cdefCDEF", rest[2]);
}

}  // namespace gander
