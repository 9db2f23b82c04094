#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numbers>

#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "base/error.h"

namespace gander {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> paths;  ///< [MODEL] FILE
  std::size_t limit = 0;           ///< 0: all
  bool json = false;
};

// -log softmax(logits)[token], as log-sum-exp in double precision.
double negative_log_likelihood(std::span<const float> logits, TokenId token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - logits[token];
}

// Sum over `tokens` of the NLL of each, given those before it and token 0 at the start.
double total_nll(Backend& backend, std::span<const TokenId> tokens) {
  const std::size_t vocab_size = backend.config().vocab_size;
  // At most 16 MB of logits at a time.
  const std::size_t chunk = std::clamp<std::size_t>((std::size_t{1} << 22) / vocab_size, 1, 256);
  std::vector<TokenId> inputs(tokens.size());
  inputs[0] = 0;
  std::copy(tokens.begin(), tokens.end() - 1, inputs.begin() + 1);
  std::vector<float> logits(std::min(chunk, inputs.size()) * vocab_size);
  Progress progress("evaluating", tokens.size());
  double nll = 0;
  for (std::size_t start = 0; start < inputs.size(); start += chunk) {
    progress.update(start);
    const std::size_t count = std::min(chunk, inputs.size() - start);
    const std::span<float> rows(logits.data(), count * vocab_size);
    backend.forward(std::span(inputs).subspan(start, count), Logits::All, rows);
    for (std::size_t i = 0; i < count; ++i) {
      nll += negative_log_likelihood(rows.subspan(i * vocab_size, vocab_size), tokens[start + i]);
    }
  }
  return nll;
}

int eval(Options options) {
  const std::string file = options.paths.back();
  if (options.paths.size() == 2) options.model.path = options.paths.front();
  const Model model = open_model(options.model);
  const Tokenizer& tokenizer = require_tokenizer(model);
  std::vector<TokenId> tokens = tokenizer.encode(read_input(file));
  if (options.limit != 0 && tokens.size() > options.limit) tokens.resize(options.limit);
  if (tokens.empty()) fail("{} is empty: there is nothing to evaluate", file);
  std::size_t bytes = 0;
  for (const TokenId token : tokens) bytes += tokenizer.bytes(token).size();

  const std::unique_ptr<Backend> backend = create_backend(model, options.model);
  const auto begin = std::chrono::steady_clock::now();
  const double total = total_nll(*backend, tokens);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto count = static_cast<double>(tokens.size());
  const double nll = total / count;
  const double bits_per_byte = total / std::numbers::ln2 / static_cast<double>(bytes);
  if (options.json) {
    const Json json = {{"nll", nll},
                       {"perplexity", std::exp(nll)},
                       {"tokens", tokens.size()},
                       {"bytes", bytes},
                       {"bits_per_byte", bits_per_byte},
                       {"seconds", seconds},
                       {"tokens_per_second", count / seconds},
                       {"model", model.path},
                       {"backend", backend->description()}};
    print(json_text(json) + "\n");
    return 0;
  }
  print(fmt::format("perplexity {:.4f}   nll {:.6f} per token   {:.4f} bits per byte\n",
                    std::exp(nll), nll, bits_per_byte));
  print(fmt::format("{} tokens, {} bytes in {:.1f} s: {:.0f} tok/s on {}\n", grouped(tokens.size()),
                    grouped(bytes), seconds, count / seconds, backend->description()));
  return 0;
}

}  // namespace

void add_eval_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("eval", "Measure how well a model predicts a text");
  command
      ->add_option("[MODEL] FILE", options->paths,
                   "MODEL FILE, or FILE alone for the built-in model; FILE - is stdin")
      ->required()
      ->expected(1, 2)
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  command->add_option("--limit", options->limit, "evaluate only the first N tokens")
      ->option_text("N")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "print one JSON object");
  add_model_options(*command, options->model);
  command->footer(
      "The text is encoded whole and read after token 0, in one state.\n\n"
      "Examples:\n"
      "  gander eval model.gguf text.txt --limit 4096\n"
      "  gander eval text.txt --json");
  command->callback([&action, options] { action = [options] { return eval(*options); }; });
}

}  // namespace gander
