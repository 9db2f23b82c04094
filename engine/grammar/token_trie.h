#pragma once

#include <cstdint>
#include <vector>

#include "model/tokenizer/tokenizer.h"

namespace gander {

/// A vocabulary as a tree of bytes, written down so that walking through it is going through an
/// array: a node is followed by all nodes below it.
struct TokenTrie {
  struct Node {
    unsigned char byte;
    unsigned char depth;  ///< 0: the first byte of tokens
    TokenId token;        ///< that ends here; 0: none
    std::uint32_t after;  ///< the first node that is not below this one
  };

  explicit TokenTrie(const Tokenizer& tokenizer);

  std::vector<Node> nodes;
  std::size_t words = 0;    ///< of 64 bits, one for each token
  std::size_t longest = 0;  ///< token in bytes
};

}  // namespace gander
