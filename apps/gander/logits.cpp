#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <numeric>

#include "apps/gander/commands.h"
#include "apps/gander/terminal.h"
#include "base/error.h"

namespace gander {
namespace {

struct LogitsOptions {
  ModelOptions model;
  std::string tokens;
  std::size_t top = 10;
  bool json = false;
};

// Written by hand: the shortest decimals that read back as the same floats, where the JSON library
// would print the digits of the doubles next to them.
std::string logits_json(std::span<const TokenId> tokens, std::span<const float> logits) {
  fmt::memory_buffer out;
  fmt::format_to(std::back_inserter(out), "{{\"tokens\":[{}],\"logits\":[", fmt::join(tokens, ","));
  const char* separator = "";
  for (const float logit : logits) {
    if (std::isfinite(logit)) {
      fmt::format_to(std::back_inserter(out), "{}{}", separator, logit);
    } else {
      fmt::format_to(std::back_inserter(out), "{}null", separator);
    }
    separator = ",";
  }
  fmt::format_to(std::back_inserter(out), "]}}\n");
  return fmt::to_string(out);
}

void print_top(const Model& model, std::span<const float> logits, std::size_t count) {
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), TokenId{0});
  count = std::min(count, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
      [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  const double largest = logits[order[0]];
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  print(fmt::format("{:>8}  {:>12}  {:>8}{}\n", "token", "logit", "p",
                    model.tokenizer ? "  text" : ""));
  for (std::size_t i = 0; i < count; ++i) {
    const TokenId token = order[i];
    std::string text;
    if (model.tokenizer) {
      text = token == 0 ? "  (end of text)"
                        : fmt::format("  \"{}\"", escape_token(model.tokenizer->bytes(token)));
    }
    print(fmt::format("{:>8}  {:>12.6f}  {:>8.5f}{}\n", token, logits[token],
                      std::exp(logits[token] - largest) / sum, text));
  }
}

int logits(const LogitsOptions& options) {
  const std::vector<TokenId> tokens = parse_token_ids(options.tokens);
  if (tokens.empty()) fail("--tokens lists no token id, for example --tokens 0,1,2");
  const Model model = open_model(options.model);
  const std::uint32_t vocab_size = model.config().vocab_size;
  for (const TokenId token : tokens) {
    if (token >= vocab_size) {
      fail("--tokens: {} is out of range, {} has the ids 0 to {}", token, model.path,
           vocab_size - 1);
    }
  }
  const std::unique_ptr<Backend> backend = create_backend(model, options.model);
  std::vector<float> result(vocab_size);
  backend->forward(tokens, Logits::Last, result);
  if (options.json) {
    print(logits_json(tokens, result));
  } else {
    print_top(model, result, options.top);
  }
  return 0;
}

}  // namespace

void add_logits_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command = program.add_subcommand("logits", "Print the logits after given tokens");
  add_model_argument(*command, options->model);
  command->add_option("--tokens", options->tokens, "token ids, separated by commas")
      ->option_text("IDS")
      ->required();
  command->add_option("--top", options->top, "how many of the largest to print")
      ->option_text("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", options->json, "print all of them, in full precision");
  add_model_options(*command, options->model);
  command->footer(
      "The tokens are read exactly as given, from a state of zeros; texts usually begin with\n"
      "token 0. No tokenizer is needed.\n\n"
      "Examples:\n"
      "  gander logits model.gguf --tokens 0,1243,1951\n"
      "  gander logits model.gguf --tokens 1,2,3 --json");
  command->callback([&action, options] { action = [options] { return logits(*options); }; });
}

}  // namespace gander
