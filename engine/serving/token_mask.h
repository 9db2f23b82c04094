#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "model/config.h"

namespace gander {

/// Which tokens may come next: a grammar's state in one sequence. Used by one thread at a time, not
/// always the same; what it throws ends the choice that it belongs to, and no other.
class TokenMask {
 public:
  virtual ~TokenMask() = default;

  /// A bit for each token, 64 to a word, the lowest first; bit 0, the end of the text, says whether
  /// it may end here. At least V bits; valid until accept().
  virtual std::span<const std::uint64_t> allowed() = 0;
  /// Goes on by a token that was allowed.
  virtual void accept(TokenId token) = 0;
  virtual std::unique_ptr<TokenMask> clone() const = 0;
};

}  // namespace gander
