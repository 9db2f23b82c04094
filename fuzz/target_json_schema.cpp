#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/grammar/lazy_automaton.h"
#include "engine/grammar/schema_compiler.h"
#include "engine/grammar/token_trie.h"
#include "fuzz/targets.h"

namespace gander {
namespace {

const TokenTrie& bytes_and_some() {
  static const TokenTrie trie = [] {
    std::vector<std::string> tokens(1);
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* more : {"{\"", "\":", "true", "]]]]", "\xE6\x97", "12345"}) {
      tokens.emplace_back(more);
    }
    return TokenTrie(Tokenizer(std::move(tokens)));
  }();
  return trie;
}

}  // namespace

// A schema, and after a zero byte the choices of a walk through its masks: whatever the schema is,
// a mask is never empty, and a text that may end is JSON.
void fuzz_json_schema(std::span<const std::byte> bytes) {
  const std::string_view input(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string_view schema = input.substr(0, input.find('\0'));
  const std::string_view choices = input.substr(std::min(schema.size() + 1, input.size()));
  try {
    const Pushdown pushdown = compile_schema(schema);
    const std::vector<std::uint32_t> heights = pushdown.heights();
    if (heights[pushdown.start(0)] > Pushdown::kLevels) return;
    LazyAutomaton known(pushdown, heights);
    LazyAutomaton::Configuration at = known.start();
    std::string text;
    for (std::size_t i = 0; i <= choices.size() && i < 100; ++i) {
      const auto mask = known.mask(at, bytes_and_some());
      if (std::ranges::all_of(*mask, [](std::uint64_t word) { return word == 0; })) std::abort();
      if (known.is_final(at) && !nlohmann::json::accept(text)) std::abort();
      if (i == choices.size()) break;
      // The byte chosen, or the next that may follow.
      unsigned byte = static_cast<unsigned char>(choices[i]);
      for (int tries = 0; tries < 256; ++tries, byte = (byte + 1) % 256) {
        if (((*mask)[(byte + 1) / 64] >> ((byte + 1) % 64) & 1U) != 0) break;
      }
      const char next = static_cast<char>(byte);
      const LazyAutomaton::Configuration after = known.advance(at, {&next, 1});
      if (after == LazyAutomaton::kDead) return;  // only the end may follow
      text += next;
      at = after;
    }
  } catch (const Error&) {
  }
}

}  // namespace gander
