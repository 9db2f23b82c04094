#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint/tensor_source.h"
#include "model/config.h"

namespace gander {

/// The RWKV World tokenizer: greedy longest match over bytes, left to right. No normalisation, no
/// special tokens. Every byte is a token of its own (id = byte + 1 in the World vocabulary), so
/// every byte string can be encoded, and decoding gives it back.
class Tokenizer {
 public:
  /// `tokens[id]` holds the bytes of token id; empty for id 0 (end of document) and unused ids.
  /// Throws Error when two ids have the same bytes or a single byte has no token.
  explicit Tokenizer(std::vector<std::string> tokens);

  /// One past the largest id that has bytes.
  std::size_t size() const { return tokens_.size(); }
  /// Appends the ids of `text` to `ids`.
  void encode(std::string_view text, std::vector<TokenId>& ids) const;
  std::vector<TokenId> encode(std::string_view text) const;
  /// Appends the ids of the leading tokens that stay the same whatever is written after `text`, and
  /// returns how many of its bytes they cover. The rest could merge with what follows.
  std::size_t encode_stable(std::string_view text, std::vector<TokenId>& ids) const;
  /// The bytes of a token; empty for 0, unused ids, and ids outside the vocabulary.
  std::string_view bytes(TokenId id) const {
    return id < tokens_.size() ? std::string_view(tokens_[id]) : std::string_view();
  }
  std::string decode(const std::vector<TokenId>& ids) const;
  /// Hash of all tokens: equal exactly for equal vocabularies.
  std::uint64_t fingerprint() const;

 private:
  // A level-order trie: the children of a node lie together, sorted by the byte that leads to
  // them, so a node is its children's range and nothing is stored per absent byte. The root is
  // node 0 and has all 256 children: byte b leads to node 1 + b.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint16_t child_count = 0;
    TokenId token = 0;  ///< that ends here; 0: none
  };
  struct Match {
    TokenId token;
    std::size_t length;
    bool open;  ///< the text ended where a longer token could still have matched
  };

  void build_trie();
  std::uint32_t child(const Node& node, unsigned char byte) const;
  Match longest_match(std::string_view text) const;

  std::vector<std::string> tokens_;
  std::vector<Node> nodes_;
  std::vector<unsigned char> labels_;  ///< of each node: the byte that leads to it
};

/// Parses a vocabulary in the text form of rwkv_vocab_v20230424.txt: a line `id literal length` per
/// token. `path` is for messages. Throws Error with the line number.
Tokenizer parse_vocabulary(std::string_view text, const std::string& path);
/// Reads such a file.
Tokenizer read_vocabulary(const std::string& path);

/// The tokenizer inside a GGUF file (tokenizer.ggml.model = "rwkv"); nothing when it has none.
/// Throws Error when it has another kind of tokenizer or a malformed one.
std::optional<Tokenizer> tokenizer_of(const TensorSource& source);

/// The token's bytes as GGUF stores them: Python's repr(bytes) without b''; and back.
/// unescape_token throws Error for an incomplete or unknown escape.
std::string escape_token(std::string_view bytes);
std::string unescape_token(std::string_view escaped);

}  // namespace gander
