#include "model/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/error.h"

namespace gander {
namespace {

constexpr std::uint32_t kNoNode = 0;                    // the root is nobody's child
constexpr std::uint64_t kLargestVocabulary = 1U << 30;  // in bytes: nodes have 32-bit numbers

}  // namespace

Tokenizer::Tokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {
  if (!tokens_.empty()) tokens_[0].clear();
  while (!tokens_.empty() && tokens_.back().empty()) tokens_.pop_back();
  build_trie();
}

void Tokenizer::build_trie() {
  std::vector<TokenId> sorted;
  std::size_t longest = 0;
  std::uint64_t total = 0;
  for (TokenId id = 1; id < tokens_.size(); ++id) {
    if (tokens_[id].empty()) continue;
    sorted.push_back(id);
    longest = std::max(longest, tokens_[id].size());
    total += tokens_[id].size();
  }
  if (total >= kLargestVocabulary) fail("the tokens have {} bytes; the limit is 1 GB", total);
  std::sort(sorted.begin(), sorted.end(), [this](TokenId a, TokenId b) {
    const int order = tokens_[a].compare(tokens_[b]);
    return order != 0 ? order < 0 : a < b;
  });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (tokens_[sorted[i - 1]] == tokens_[sorted[i]]) {
      fail("the tokens {} and {} have the same bytes: '{}'", sorted[i - 1], sorted[i],
           escape_token(tokens_[sorted[i]]));
    }
  }

  // Level by level: the tokens below a node are a range of `sorted`, and each byte at the node's
  // depth cuts a child's range out of it.
  struct Range {
    std::uint32_t node, begin, end;
  };
  nodes_.emplace_back();
  labels_.push_back(0);
  std::vector<Range> level = {{0, 0, static_cast<std::uint32_t>(sorted.size())}};
  std::vector<Range> next;
  for (std::size_t depth = 0; depth < longest; ++depth) {
    next.clear();
    for (const Range& range : level) {
      std::uint32_t at = range.begin;
      if (at < range.end && tokens_[sorted[at]].size() == depth) ++at;  // the node's own token
      nodes_[range.node].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (at < range.end) {
        const char byte = tokens_[sorted[at]][depth];
        const std::uint32_t begin = at;
        while (at < range.end && tokens_[sorted[at]][depth] == byte) ++at;
        Node node;
        if (tokens_[sorted[begin]].size() == depth + 1) node.token = sorted[begin];
        next.push_back({static_cast<std::uint32_t>(nodes_.size()), begin, at});
        nodes_.push_back(node);
        labels_.push_back(static_cast<unsigned char>(byte));
        ++nodes_[range.node].child_count;
      }
    }
    level.swap(next);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool present = byte < nodes_[0].child_count && labels_[1 + byte] == byte;
    if (!present || nodes_[1 + byte].token == 0) {
      fail(
          "the vocabulary has no token for the single byte 0x{:02x}, so not every text could be "
          "encoded",
          byte);
    }
  }
}

std::uint32_t Tokenizer::child(const Node& node, unsigned char byte) const {
  // Branch-free lower bound: the comparison becomes a conditional move.
  const unsigned char* label = labels_.data() + node.first_child;
  std::uint32_t count = node.child_count;
  if (count == 0) return kNoNode;
  const unsigned char* low = label;
  while (count > 1) {
    const std::uint32_t half = count / 2;
    low = low[half] <= byte ? low + half : low;
    count -= half;
  }
  if (*low != byte) return kNoNode;
  return node.first_child + static_cast<std::uint32_t>(low - label);
}

Tokenizer::Match Tokenizer::longest_match(std::string_view text) const {
  const auto first = static_cast<unsigned char>(text[0]);
  std::uint32_t at = 1U + first;
  Match match = {nodes_[at].token, 1, false};
  for (std::size_t i = 1; i < text.size(); ++i) {
    at = child(nodes_[at], static_cast<unsigned char>(text[i]));
    if (at == kNoNode) return match;
    if (nodes_[at].token != 0) match = {nodes_[at].token, i + 1, false};
  }
  match.open = nodes_[at].child_count != 0;
  return match;
}

void Tokenizer::encode(std::string_view text, std::vector<TokenId>& ids) const {
  while (!text.empty()) {
    const Match match = longest_match(text);
    ids.push_back(match.token);
    text.remove_prefix(match.length);
  }
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 1);
  encode(text, ids);
  return ids;
}

std::size_t Tokenizer::encode_stable(std::string_view text, std::vector<TokenId>& ids) const {
  std::size_t done = 0;
  while (done < text.size()) {
    const Match match = longest_match(text.substr(done));
    if (match.open) break;
    ids.push_back(match.token);
    done += match.length;
  }
  return done;
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  for (const TokenId id : ids) text += bytes(id);
  return text;
}

std::uint64_t Tokenizer::fingerprint() const {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      &XXH3_freeState);
  if (hash == nullptr) fail("out of memory");
  XXH3_64bits_reset(hash.get());
  for (const std::string& token : tokens_) {
    // The length first, so that moving a byte to a neighbour changes the hash.
    const auto length = static_cast<std::uint32_t>(token.size());
    const unsigned char length_bytes[4] = {
        static_cast<unsigned char>(length), static_cast<unsigned char>(length >> 8),
        static_cast<unsigned char>(length >> 16), static_cast<unsigned char>(length >> 24)};
    XXH3_64bits_update(hash.get(), length_bytes, sizeof length_bytes);
    XXH3_64bits_update(hash.get(), token.data(), token.size());
  }
  return XXH3_64bits_digest(hash.get());
}

}  // namespace gander
