#include "apps/gander/bench_tokens.h"

#include <string_view>

namespace gander {
namespace {

// Read again and again up to the wanted length, where there is a tokenizer: what relu² leaves zero,
// and with it the speed, depends on what is read.
constexpr std::string_view kText =
    "The river ran past the old mill and under the bridge. Every morning a girl came down the path "
    "with a basket, sat on the stones and watched the water. One day she asked the miller why the "
    "wheel never stopped. \"Because the river never does,\" he said, and gave her an apple.\n\n";

}  // namespace

std::vector<TokenId> bench_tokens(const Model& model, std::uint32_t count) {
  std::vector<TokenId> tokens = {0};
  while (tokens.size() < count) {
    if (model.tokenizer) {
      model.tokenizer->encode(kText, tokens);
    } else {
      tokens.push_back(static_cast<TokenId>((tokens.size() * 7919) % model.config().vocab_size));
    }
  }
  tokens.resize(count);
  return tokens;
}

}  // namespace gander
