#pragma once

#include <cstdint>
#include <vector>

#include "engine/model.h"

namespace gander {

/// What the bench commands read: `count` tokens of a short story, again and again, after token 0;
/// without a tokenizer tokens from all over the vocabulary.
std::vector<TokenId> bench_tokens(const Model& model, std::uint32_t count);

}  // namespace gander
