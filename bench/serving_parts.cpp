// What the server's parts cost on this machine: writing and reading a state of the disk tier, a
// schema, and its masks.
// usage: gander_serving_parts [VOCABULARY, else a made-up one of 65,536 tokens]
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/median.h"
#include "engine/cache/state_folder.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/token_trie.h"

namespace gander {
namespace {

constexpr int kRounds = 21;

template <typename Work>
double milliseconds(Work work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

void measure_states(const std::string& folder) {
  Config config;
  config.layers = 24;
  config.heads = 16;
  config.head_size = 64;
  config.width = 1024;
  State state(config);
  std::minstd_rand random(1);
  for (float& value : state.values()) value = static_cast<float>(random());
  const std::vector<TokenId> tokens(2000, 1);
  StateKey key;
  key.tokens = {tokens.size(), prefix_hashes(tokens).back()};
  const StateFolder states(folder, 1 << 30, 1);
  const std::string path = states.path(key.file_name(1));
  std::vector<double> write;
  std::vector<double> write_synced;
  std::vector<double> read;
  for (int round = 0; round < kRounds; ++round) {
    write.push_back(
        milliseconds([&] { write_state(path, state, 1, tokens, {}, AtomicFile::Sync::No); }));
    read.push_back(milliseconds([&] { states.read(key, config); }));
    write_synced.push_back(milliseconds([&] { write_state(path, state, 1, tokens, {}); }));
  }
  fmt::print("state of {} bytes: written in {:.2f} ms, {:.2f} ms synced, read in {:.2f} ms\n",
             state.values().size_bytes(), median(write), median(write_synced), median(read));
}

// Words of letters that follow each other as in a language, most with a space before them.
Tokenizer made_up_vocabulary() {
  std::mt19937 random(1);
  std::vector<std::string> tokens(1);
  std::set<std::string> known;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  while (tokens.size() < 65536) {
    std::string word = random() % 3 == 0 ? "" : " ";
    for (std::size_t i = 1 + random() % 5; i > 0; --i) {
      word += "bcdfghjklmnprstvw"[random() % 17];
      word += "aeiou"[random() % 5];
    }
    if (word.size() > 1 && known.insert(word).second) tokens.push_back(word);
  }
  return Tokenizer(std::move(tokens));
}

void measure_masks(const std::shared_ptr<const Tokenizer>& tokenizer) {
  std::shared_ptr<const TokenTrie> trie;
  const double build = milliseconds([&] { trie = std::make_shared<const TokenTrie>(*tokenizer); });
  fmt::print("vocabulary of {} tokens: tree of {} nodes in {:.2f} ms\n", tokenizer->size(),
             trie->nodes.size(), build);
  const std::string schema =
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
          "tags": {"type": "array", "items": {"type": "string", "maxLength": 40}}, "kind": {"enum": ["cat", "dog", "other"]}},
          "required": ["name", "age", "kind"], "additionalProperties": false})";
  std::vector<double> compile;
  std::vector<double> cold_string;
  std::vector<double> cold_all;
  std::vector<double> cached;
  std::size_t masks = 0;
  const std::string text = R"({"name": "Lily", "age": 12, "tags": ["a", "b"], "kind": "cat"})";
  for (int round = 0; round < kRounds; ++round) {
    std::shared_ptr<const Grammar> grammar;
    compile.push_back(
        milliseconds([&] { grammar = compile_json_schema(schema, tokenizer, trie); }));
    const auto pass = [&](std::vector<double>& all) {
      const std::unique_ptr<TokenMask> mask = grammar->start();
      masks = 0;
      all.push_back(0);
      for (const TokenId token : tokenizer->encode(text)) {
        all.back() += milliseconds([&] { mask->allowed(); });
        ++masks;
        mask->accept(token);
      }
    };
    pass(cold_all);
    pass(cached);
    const std::unique_ptr<TokenMask> inside =
        compile_json_schema(R"({"type":"string"})", tokenizer, trie)->start();
    inside->accept('"' + 1);
    cold_string.push_back(milliseconds([&] { inside->allowed(); }));
  }
  fmt::print(
      "schema compiled in {:.3f} ms; inside a string a mask takes {:.3f} ms the first time;\n"
      "the {} masks of a text of {} bytes take {:.3f} ms the first time, {:.4f} ms then\n",
      median(compile), median(cold_string), masks, text.size(), median(cold_all), median(cached));
}

}  // namespace
}  // namespace gander

int main(int argc, char** argv) {
  using namespace gander;
  try {
    const std::string folder = (std::filesystem::temp_directory_path() / "gander-states").string();
    measure_states(folder);
    std::filesystem::remove_all(folder);
    measure_masks(std::make_shared<const Tokenizer>(argc > 1 ? read_vocabulary(argv[1])
                                                             : made_up_vocabulary()));
  } catch (const Error& error) {
    fmt::print(stderr, "gander_serving_parts: {}\n", error.what());
    return 1;
  }
  return 0;
}
