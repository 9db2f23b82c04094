#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "fuzz/targets.h"
#include "model/checkpoint/tensor_source.h"
#include "model/tokenizer/tokenizer.h"

namespace gander {
namespace {

// The lines of the 256 single bytes, without which a fuzzer would never get to a tokenizer.
std::string byte_lines() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte)
    lines += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  return lines;
}

void check_round_trip(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<TokenId> ids = tokenizer.encode(text);
  if (tokenizer.decode(ids) != text) std::abort();
  std::vector<TokenId> stable;
  tokenizer.encode_stable(text, stable);
  if (stable.size() > ids.size() || !std::equal(stable.begin(), stable.end(), ids.begin())) {
    std::abort();
  }
}

// The lines of `text` as GGUF's list of tokens.
TensorSource metadata_of(std::string_view text) {
  std::vector<std::string> tokens = {"<s>"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("\\x{:02x}", byte));
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    tokens.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  TensorSource source;
  source.path = "fuzz";
  source.metadata["tokenizer.ggml.model"] = std::string("rwkv");
  source.metadata["tokenizer.ggml.tokens"] = std::move(tokens);
  return source;
}

}  // namespace

// The bytes as a vocabulary file, as the end of one, and as a list of tokens; then as text for the
// tokenizer that came out.
void fuzz_vocabulary(std::span<const std::byte> bytes) {
  static const std::string kByteLines = byte_lines();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const std::string& vocabulary : {std::string(text), kByteLines + std::string(text)}) {
    try {
      check_round_trip(parse_vocabulary(vocabulary, "fuzz"), text);
    } catch (const Error&) {
    }
  }
  try {
    check_round_trip(tokenizer_of(metadata_of(text)).value(), text);
  } catch (const Error&) {
  }
}

}  // namespace gander
