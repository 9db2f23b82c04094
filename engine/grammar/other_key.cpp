#include "engine/grammar/other_key.h"

#include <algorithm>
#include <map>

#include "engine/grammar/json_characters.h"

namespace gander {

void add_other_key(Pushdown& automaton, std::uint32_t from, const std::vector<std::string>& names,
                   std::uint32_t to) {
  struct NamePart {
    std::uint32_t state;
    int missing = 0;  // bytes of the character that it stands in
    bool is_name = false;
    std::map<std::uint32_t, std::size_t> next = {};
  };
  std::vector<NamePart> nodes = {{automaton.add_text(from, "\"")}};
  for (const std::string& name : names) {
    std::size_t at = 0;
    for (const char c : name) {
      const auto [found, is_new] =
          nodes[at].next.try_emplace(static_cast<unsigned char>(c), nodes.size());
      const std::size_t target = found->second;
      if (is_new) {
        const auto byte = static_cast<unsigned char>(c);
        const int missing = byte >= 0xF0   ? 3
                            : byte >= 0xE0 ? 2
                            : byte >= 0xC0 ? 1
                                           : std::max(nodes[at].missing - 1, 0);
        nodes.push_back({automaton.add_state(), missing});
      }
      at = target;
    }
    nodes[at].is_name = true;
  }
  const std::uint32_t other = automaton.add_state();
  automaton.add_byte(other, '"', to);
  add_plain_character(automaton, other, other);
  for (const NamePart& node : nodes) {
    bool is_followed_by_ascii = true;
    for (const auto& [byte, target] : node.next) {
      is_followed_by_ascii &= byte < 0x80;
      if (byte < 0x20 || byte == '"' || byte == '\\') continue;  // no key without escapes
      const auto same = static_cast<unsigned char>(byte);
      automaton.add_edge(node.state, same, same, nodes[target].state);
    }
    if (node.missing > 0) continue;
    if (!node.is_name) automaton.add_byte(node.state, '"', to);
    for (unsigned byte = 0x20; byte < 0x80; ++byte) {
      if (byte == '"' || byte == '\\' || node.next.contains(byte)) continue;
      automaton.add_byte(node.state, static_cast<char>(byte), other);
    }
    // Beside a name that goes on with another character, no key does.
    if (is_followed_by_ascii)
      automaton.add_edge(node.state, CodePoints{0x80, kLastCodePoint}, other);
  }
}

}  // namespace gander
