#pragma once

#include <xxhash.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/cache/state_cache.h"
#include "tests/support/vocabularies.h"

// What the tests of the state cache put in: states that tell for what they were made, and texts.
namespace gander {

// A model that is nothing but a shape, a vocabulary and a fingerprint.
inline Model shape_of_model(std::uint32_t head_size = 2, std::uint64_t fingerprint = 77) {
  auto weights = std::make_shared<Weights>();
  weights->config.layers = 1;
  weights->config.heads = 1;
  weights->config.head_size = weights->config.width = head_size;
  Model model;
  model.weights = std::move(weights);
  model.tokenizer =
      std::make_shared<const Tokenizer>(byte_tokenizer({"ab", "abc", "bc", "é", "aé", "日本"}));
  model.fingerprint = fingerprint;
  return model;
}

// The state after `tokens`: one that tells for what it was made.
inline std::shared_ptr<const State> state_after(const Model& model,
                                                std::span<const TokenId> tokens) {
  auto state = std::make_shared<State>(model.config());
  std::minstd_rand random(static_cast<unsigned>(XXH64(tokens.data(), tokens.size_bytes(), 0)));
  for (float& value : state->values()) value = static_cast<float>(random());
  return state;
}

inline bool is_state_after(const Model& model, const CachedState& found) {
  return std::ranges::equal(found.state->values(), state_after(model, found.tokens)->values());
}

inline std::vector<TokenId> prompt_tokens(const Model& model, std::string_view text) {
  std::vector<TokenId> tokens = {0};
  model.tokenizer->encode(text, tokens);
  return tokens;
}

inline std::optional<CachedState> find(StateCache& cache, const Model& model,
                                       std::string_view text) {
  return cache.find(text, prompt_tokens(model, text));
}

inline void insert(StateCache& cache, const Model& model, std::span<const TokenId> tokens,
                   bool is_turn) {
  cache.insert(tokens, state_after(model, tokens), is_turn);
}

inline void insert(StateCache& cache, const Model& model, std::string_view text, bool is_turn) {
  insert(cache, model, prompt_tokens(model, text), is_turn);
}

class RandomTexts {
 public:
  explicit RandomTexts(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return random_() % bound; }

  std::string text(std::size_t pieces) {
    static const std::string kPieces[] = {"a", "b", "ab", "abc", "bc", "é", "日本", "本", " "};
    std::string text;
    for (std::size_t i = below(pieces + 1); i > 0; --i) text += kPieces[below(std::size(kPieces))];
    return text;
  }

  // Tokens whose bytes are `text`, of any lengths; after token 0 mostly.
  std::vector<TokenId> any_tokens(const Tokenizer& tokenizer, std::string_view text) {
    std::vector<TokenId> tokens;
    if (below(8) != 0) tokens.push_back(0);
    while (!text.empty()) {
      const std::vector<TokenId> piece = tokenizer.encode(text.substr(0, 1 + below(6)));
      tokens.push_back(piece[0]);
      text.remove_prefix(tokenizer.bytes(piece[0]).size());
    }
    return tokens;
  }

 private:
  std::mt19937 random_;
};

}  // namespace gander
