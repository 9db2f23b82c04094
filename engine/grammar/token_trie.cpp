#include "engine/grammar/token_trie.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace gander {

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : words((tokenizer.size() + 63) / 64) {
  std::vector<TokenId> sorted;
  for (TokenId id = 1; id < tokenizer.size(); ++id) {
    if (tokenizer.bytes(id).empty()) continue;
    sorted.push_back(id);
    longest = std::max(longest, tokenizer.bytes(id).size());
  }
  std::ranges::sort(sorted, {}, [&](TokenId id) { return tokenizer.bytes(id); });
  std::vector<std::uint32_t> open;  // nodes of the token before, a byte each
  std::string_view before;
  const auto close = [&](std::size_t size) {
    while (open.size() > size) {
      nodes[open.back()].after = static_cast<std::uint32_t>(nodes.size());
      open.pop_back();
    }
  };
  for (const TokenId id : sorted) {
    // A token whose depth has no room can be chosen byte by byte.
    const std::string_view bytes = tokenizer.bytes(id);
    if (bytes.size() > 255) continue;
    const auto [mine, theirs] = std::ranges::mismatch(bytes, before);
    close(static_cast<std::size_t>(mine - bytes.begin()));
    while (open.size() < bytes.size()) {
      const std::size_t depth = open.size();
      open.push_back(static_cast<std::uint32_t>(nodes.size()));
      nodes.push_back(
          {static_cast<unsigned char>(bytes[depth]), static_cast<unsigned char>(depth), 0, 0});
    }
    nodes[open.back()].token = id;
    before = bytes;
  }
  close(0);
}

}  // namespace gander
