#include <fmt/format.h>

#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "base/error.h"

namespace gander {
namespace {

struct TokenizeOptions {
  ModelOptions model;
  bool decode = false;
  bool json = false;
};

std::shared_ptr<const Tokenizer> find_tokenizer(const ModelOptions& options) {
  if (options.path.empty() && !options.vocabulary.empty()) {
    return std::make_shared<const Tokenizer>(read_vocabulary(options.vocabulary));
  }
  const Model model = open_model(options);
  require_tokenizer(model);
  return model.tokenizer;
}

void print_ids(const std::vector<TokenId>& ids, bool json) {
  std::string out;
  out.reserve(ids.size() * 6 + 3);
  if (json) out += '[';
  bool first = true;
  for (const TokenId id : ids) {
    if (!first) out += json ? ',' : ' ';
    first = false;
    const fmt::format_int digits(id);
    out.append(digits.data(), digits.size());
  }
  out += json ? "]\n" : "\n";
  print(out);
}

int tokenize(const TokenizeOptions& options) {
  const std::shared_ptr<const Tokenizer> tokenizer = find_tokenizer(options.model);
  const std::string input = read_input("-");
  if (!options.decode) {
    print_ids(tokenizer->encode(input), options.json);
    return 0;
  }
  const std::vector<TokenId> ids = parse_token_ids(input);
  for (const TokenId id : ids) {
    if (id >= tokenizer->size()) {
      fail("token id {} is out of range, the vocabulary ends at {}", id, tokenizer->size() - 1);
    }
  }
  print(tokenizer->decode(ids));
  return 0;
}

}  // namespace

void add_tokenize_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = program.add_subcommand("tokenize", "Turn text into token ids, and back");
  add_model_argument(*command, options->model);
  add_vocabulary_option(*command, options->model);
  CLI::Option* json = command->add_flag("--json", options->json, "print the ids as a JSON array");
  command->add_flag("--decode", options->decode, "ids from stdin, bytes to stdout")->excludes(json);
  command->footer(
      "Reads bytes from stdin and prints their ids on one line, separated by spaces. With --vocab\n"
      "and no MODEL no checkpoint is opened.\n\n"
      "Examples:\n"
      "  echo -n \"Hello\" | gander tokenize model.gguf\n"
      "  echo 73 102 | gander tokenize --vocab vocab.txt --decode");
  command->callback([&action, options] { action = [options] { return tokenize(*options); }; });
}

}  // namespace gander
