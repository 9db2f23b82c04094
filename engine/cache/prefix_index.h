#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/config.h"

namespace gander {

/// A sequence of tokens or bytes by its length and a hash of it. States are few and large, what
/// they have read is long: a tree by hashes of prefixes needs no more than this of each, so those
/// on disk are indexed without reading their files. What a hash finds is compared before it is
/// used.
struct Prefix {
  std::uint64_t size = 0;
  std::uint64_t hash = 0;
};

/// Hashes of the first 0, 1, ... n elements, as Prefix has them. They are kept in names of files.
std::vector<std::uint64_t> prefix_hashes(std::span<const TokenId> tokens);
/// Texts after a leading token 0, and such without, are different.
std::vector<std::uint64_t> prefix_hashes(std::string_view text, bool after_token_0);

/// Entries, named by numbers, under prefixes.
class PrefixIndex {
 public:
  void add(const Prefix& prefix, std::uint64_t entry);
  void remove(const Prefix& prefix, std::uint64_t entry);

  /// The entry with the longest prefix that accept(entry) agrees to, among those with less than all
  /// elements of a sequence whose prefix_hashes are `hashes`; and its size.
  template <typename Accept>
  std::optional<std::pair<std::uint64_t, std::uint64_t>> longest(
      std::span<const std::uint64_t> hashes, Accept accept) const {
    if (hashes.empty()) return std::nullopt;
    for (auto size = sizes_.lower_bound(hashes.size() - 1); size != sizes_.begin();) {
      --size;
      const auto [begin, end] = entries_.equal_range(hashes[size->first]);
      for (auto at = begin; at != end; ++at) {
        if (at->second.size == size->first && accept(at->second.entry)) {
          return std::pair(at->second.entry, size->first);
        }
      }
    }
    return std::nullopt;
  }

 private:
  struct Item {
    std::uint64_t size, entry;
  };
  std::unordered_multimap<std::uint64_t, Item> entries_;  // by hash
  std::map<std::uint64_t, std::uint64_t> sizes_;          // how many prefixes have a size
};

}  // namespace gander
