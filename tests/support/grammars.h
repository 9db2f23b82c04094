#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/grammar.h"
#include "tests/support/vocabularies.h"

// What the tests of grammars ask them: whether they accept a text, and for any that they do.
namespace gander {

inline std::shared_ptr<const Tokenizer> grammar_vocabulary() {
  static const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer(
      {"{\"",  "\":", "\": ", ", ", ",\"", "\",\"",    "[[", "]]",   "}}",       "true",   "false",
       "null", "12",  "-1",   "0.", "ab",  "a\"",      "é",  "日本", "\xE6\x97", "\xA5\"", "\\u",
       "\\\"", "\\n", "d8",   "dc", "00",  "\xF0\x9F", "  ", " {",   "\n{"}));
  return tokenizer;
}

inline std::shared_ptr<const Grammar> grammar_of(const nlohmann::ordered_json& schema) {
  return compile_json_schema(schema.dump(), grammar_vocabulary());
}

inline bool is_allowed(std::span<const std::uint64_t> mask, TokenId token) {
  return (mask[token / 64] >> (token % 64) & 1U) != 0;
}

// Whether a text, byte by byte, is one of the grammar's.
inline bool accepts(const Grammar& grammar, std::string_view text) {
  const std::unique_ptr<TokenMask> mask = grammar.start();
  for (const char byte : text) {
    const TokenId token = static_cast<unsigned char>(byte) + 1U;
    if (!is_allowed(mask->allowed(), token)) return false;
    mask->accept(token);
  }
  return is_allowed(mask->allowed(), 0);
}

// A text that the masks allow, of random tokens; after a while of such that close what is open.
inline std::string walk(const Grammar& grammar, std::mt19937& random) {
  const std::unique_ptr<TokenMask> mask = grammar.start();
  std::string text;
  const std::size_t patience = random() % 60;
  for (std::size_t step = 0; step < 20000; ++step) {
    const std::span<const std::uint64_t> allowed = mask->allowed();
    std::vector<TokenId> tokens;
    for (TokenId token = 0; token < grammar_vocabulary()->size(); ++token) {
      if (is_allowed(allowed, token)) tokens.push_back(token);
    }
    if (tokens.empty()) {
      ADD_FAILURE() << "nothing may follow " << text;
      return text;
    }
    TokenId chosen = tokens[random() % tokens.size()];
    const bool is_impatient = step > patience;
    if (is_impatient) {  // of what patterns ask for and what closes a value, one after the other
      const std::string_view useful = "xyabcd0\"";
      const auto token = static_cast<unsigned char>(useful[random() % useful.size()]) + 1U;
      if (is_allowed(allowed, token)) chosen = token;
    }
    if (random() % (is_impatient ? 2 : 4) == 0) {
      for (const TokenId closing : {0, '"' + 1, '}' + 1, ']' + 1}) {
        if (!is_allowed(allowed, closing)) continue;
        chosen = closing;
        break;
      }
    }
    if (chosen == 0) return text;
    text += grammar_vocabulary()->bytes(chosen);
    std::unique_ptr<TokenMask> copy = mask->clone();
    mask->accept(chosen);
  }
  ADD_FAILURE() << "no end: " << text.substr(0, 1000);
  return text;
}

}  // namespace gander
