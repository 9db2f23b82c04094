#include "tests/support/vocabularies.h"

namespace gander {

std::vector<std::string> byte_tokens(const std::vector<std::string>& more) {
  std::vector<std::string> tokens(1);
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

Tokenizer byte_tokenizer(const std::vector<std::string>& more) {
  return Tokenizer(byte_tokens(more));
}

std::string demo_vocabulary_path() {
  return GANDER_SOURCE_DIR "/tests/data/demo_vocab.txt";
}

}  // namespace gander
