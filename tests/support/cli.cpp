#include "tests/support/cli.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "model/gguf_export.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

constexpr std::uint32_t kVocabSize = 300;

// Tests expect the CPU's numbers, on computers with a GPU too.
[[maybe_unused]] const int kCpuByDefault = ::setenv("GANDER_BACKEND", "cpu", 1);

std::vector<std::string> tokens() {
  std::vector<std::string> result(kVocabSize);
  for (int byte = 0; byte < 256; ++byte) {
    result[static_cast<std::size_t>(byte) + 1] = std::string(1, static_cast<char>(byte));
  }
  const std::vector<std::string> words = {"the",  " the", "once", "\n\n",
                                          "User", ": ",   "é",    " story"};
  std::copy(words.begin(), words.end(), result.begin() + 257);
  return result;
}

Config small_config() {
  Config config = synthetic_config(32);
  config.layers = 2;
  config.vocab_size = kVocabSize;
  return config;
}

}  // namespace

std::vector<std::string> gander_command(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {GANDER_EXECUTABLE};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

ProcessResult run_gander(const std::vector<std::string>& arguments, ProcessOptions options) {
  return run_process(gander_command(arguments), std::move(options));
}

CliFolder::CliFolder() : weights_(make_synthetic_weights(small_config(), 1)), tokenizer_(tokens()) {
  const ChooseType types = store_as(DataType::F32, DataType::F32);
  export_gguf(model(), weights_, &tokenizer_, types);
  export_gguf(bare_model(), weights_, nullptr, types);
  std::string lines;
  for (TokenId id = 1; id < kVocabSize; ++id) {
    const std::string_view bytes = tokenizer_.bytes(id);
    if (!bytes.empty())
      lines += fmt::format("{} b'{}' {}\n", id, escape_token(bytes), bytes.size());
  }
  write("tokens.txt", lines);
}

std::string CliFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
  return path(name);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace gander
