#include "engine/cache/prefix_index.h"

namespace gander {
namespace {

// One-to-one in `hash` for each value, so nothing of what came before is lost on the way.
std::uint64_t extend(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15U;
  return hash ^ (hash >> 29);
}

}  // namespace

std::vector<std::uint64_t> prefix_hashes(std::span<const TokenId> tokens) {
  std::vector<std::uint64_t> hashes(tokens.size() + 1);
  hashes[0] = extend(0, 0x746F6B656E73U);
  for (std::size_t i = 0; i < tokens.size(); ++i) hashes[i + 1] = extend(hashes[i], tokens[i]);
  return hashes;
}

std::vector<std::uint64_t> prefix_hashes(std::string_view text, bool after_token_0) {
  std::vector<std::uint64_t> hashes(text.size() + 1);
  hashes[0] = extend(after_token_0 ? 1 : 0, 0x74657874U);
  for (std::size_t i = 0; i < text.size(); ++i) {
    hashes[i + 1] = extend(hashes[i], static_cast<unsigned char>(text[i]));
  }
  return hashes;
}

void PrefixIndex::add(const Prefix& prefix, std::uint64_t entry) {
  entries_.emplace(prefix.hash, Item{prefix.size, entry});
  ++sizes_[prefix.size];
}

void PrefixIndex::remove(const Prefix& prefix, std::uint64_t entry) {
  const auto [begin, end] = entries_.equal_range(prefix.hash);
  for (auto at = begin; at != end; ++at) {
    if (at->second.size != prefix.size || at->second.entry != entry) continue;
    entries_.erase(at);
    const auto size = sizes_.find(prefix.size);
    if (--size->second == 0) sizes_.erase(size);
    return;
  }
}

}  // namespace gander
