#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <numbers>

#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "base/error.h"
#include "engine/evaluation.h"

namespace gander {
namespace {

constexpr std::size_t kTokensOfRow = 512;

struct EvalOptions {
  ModelOptions model;
  std::vector<std::string> paths;  ///< [MODEL] FILE
  std::string compare;             ///< another model; empty: none
  std::size_t limit = 0;           ///< 0: all
  bool json = false;
};

/// The text to predict.
struct Text {
  std::vector<TokenId> tokens;
  std::size_t bytes = 0;
};

Text read_text(const EvalOptions& options, const Tokenizer& tokenizer) {
  const std::string& file = options.paths.back();
  Text text = {tokenizer.encode(read_input(file))};
  if (options.limit != 0 && text.tokens.size() > options.limit) text.tokens.resize(options.limit);
  if (text.tokens.empty()) fail("{} is empty: there is nothing to evaluate", file);
  for (const TokenId token : text.tokens) text.bytes += tokenizer.bytes(token).size();
  return text;
}

// Reads token 0 and the text through the backends side by side, and calls
// each(index, token, logits) for every token of the text, with the logits each backend had of it.
using Rows = std::vector<std::span<const float>>;
void predict(const std::vector<Backend*>& backends, std::span<const TokenId> tokens,
             const std::function<void(std::size_t, TokenId, const Rows&)>& each) {
  const std::size_t vocab_size = backends.front()->config().vocab_size;
  // At most 16 MB of logits at a time.
  const std::size_t chunk = std::clamp<std::size_t>((std::size_t{1} << 22) / vocab_size, 1, 256);
  std::vector<TokenId> inputs(tokens.size());
  inputs[0] = 0;
  std::copy(tokens.begin(), tokens.end() - 1, inputs.begin() + 1);
  std::vector<std::vector<float>> logits(
      backends.size(), std::vector<float>(std::min(chunk, inputs.size()) * vocab_size));
  Rows rows(backends.size());
  for (std::size_t start = 0; start < inputs.size(); start += chunk) {
    const std::size_t count = std::min(chunk, inputs.size() - start);
    for (std::size_t b = 0; b < backends.size(); ++b) {
      backends[b]->forward(std::span(inputs).subspan(start, count), Logits::All,
                           std::span(logits[b]).first(count * vocab_size));
    }
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t b = 0; b < backends.size(); ++b) {
        rows[b] = std::span(logits[b]).subspan(i * vocab_size, vocab_size);
      }
      each(start + i, tokens[start + i], rows);
    }
  }
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double bits_per_byte(double nll, const Text& text) {
  return nll * static_cast<double>(text.tokens.size()) / std::numbers::ln2 /
         static_cast<double>(text.bytes);
}

// What both forms of the command print of their run.
Json run_json(const Model& model, const Backend& backend, const Text& text, double seconds) {
  return {{"seconds", seconds},
          {"tokens_per_second", static_cast<double>(text.tokens.size()) / seconds},
          {"model", model.path},
          {"backend", backend.description()}};
}

void print_run(const Backend& backend, const Text& text, double seconds) {
  print(fmt::format("{} tokens, {} bytes in {:.1f} s: {:.0f} tok/s on {}\n",
                    grouped(text.tokens.size()), grouped(text.bytes), seconds,
                    static_cast<double>(text.tokens.size()) / seconds, backend.description()));
}

void evaluate(const EvalOptions& options, const Model& model, const Text& text) {
  const std::unique_ptr<Backend> backend = create_backend(model, options.model);
  const auto begin = std::chrono::steady_clock::now();
  double total = 0;
  {
    Progress progress("evaluating", text.tokens.size());
    predict({backend.get()}, text.tokens,
            [&](std::size_t index, TokenId token, const Rows& logits) {
              progress.update(index);
              total += negative_log_likelihood(logits[0], token);
            });
  }
  const double seconds = seconds_since(begin);
  const double nll = total / static_cast<double>(text.tokens.size());
  if (options.json) {
    Json json = {{"nll", nll},
                 {"perplexity", std::exp(nll)},
                 {"tokens", text.tokens.size()},
                 {"bytes", text.bytes},
                 {"bits_per_byte", bits_per_byte(nll, text)}};
    json.update(run_json(model, *backend, text, seconds));
    print(json_text(json) + "\n");
    return;
  }
  print(fmt::format("perplexity {:.4f}   nll {:.6f} per token   {:.4f} bits per byte\n",
                    std::exp(nll), nll, bits_per_byte(nll, text)));
  print_run(*backend, text, seconds);
}

Model open_other(const EvalOptions& options, const Model& model) {
  ModelOptions other_options = options.model;
  other_options.path = options.compare;
  Model other = open_model(other_options);
  if (other.config().vocab_size != model.config().vocab_size) {
    fail("{} has {} tokens in its vocabulary and {} has {}: they cannot be compared", model.path,
         model.config().vocab_size, other.path, other.config().vocab_size);
  }
  if (other.tokenizer && other.tokenizer->fingerprint() != model.tokenizer->fingerprint()) {
    fail("{} and {} have different vocabularies: they cannot be compared", model.path, other.path);
  }
  return other;
}

// The figures of all tokens so far.
Json comparison_json(const Comparison& comparison) {
  return {{"tokens", comparison.tokens()},
          {"perplexity", std::exp(comparison.nll())},
          {"reference_perplexity", std::exp(comparison.reference_nll())},
          {"perplexity_ratio", std::exp(comparison.nll() - comparison.reference_nll())},
          {"kl_mean", comparison.mean_kl()},
          {"same_top", comparison.same_top()}};
}

void print_row(const Comparison& comparison) {
  print(fmt::format("{:>8} {:>12.4f} {:>12.4f} {:>9.5f} {:>11.6f} {:>8.2f} %\n",
                    grouped(comparison.tokens()), std::exp(comparison.nll()),
                    std::exp(comparison.reference_nll()),
                    std::exp(comparison.nll() - comparison.reference_nll()), comparison.mean_kl(),
                    100 * comparison.same_top()));
  flush_output();
}

void compare(const EvalOptions& options, const Model& model, const Text& text) {
  const Model other = open_other(options, model);
  const std::unique_ptr<Backend> reference = create_backend(other, options.model);
  const std::unique_ptr<Backend> backend = create_backend(model, options.model);
  const auto begin = std::chrono::steady_clock::now();
  Comparison comparison;
  Json rows = Json::array();
  if (!options.json) {
    print(fmt::format("{:>8} {:>12} {:>12} {:>9} {:>11} {:>10}\n", "tokens", "perplexity",
                      "reference", "ratio", "mean KL", "same top"));
    flush_output();
  }
  {
    Progress progress("comparing", text.tokens.size());
    predict({reference.get(), backend.get()}, text.tokens,
            [&](std::size_t index, TokenId token, const Rows& logits) {
              progress.update(index);
              comparison.add(divergence(logits[0], logits[1]),
                             negative_log_likelihood(logits[0], token),
                             negative_log_likelihood(logits[1], token));
              if ((index + 1) % kTokensOfRow != 0 && index + 1 != text.tokens.size()) return;
              if (options.json) {
                rows.push_back(comparison_json(comparison));
              } else {
                progress.clear();
                print_row(comparison);
              }
            });
  }
  const double seconds = seconds_since(begin);
  if (options.json) {
    Json json = comparison_json(comparison);
    json.update(Json{{"nll", comparison.nll()},
                     {"reference_nll", comparison.reference_nll()},
                     {"kl_median", comparison.kl_quantile(0.5)},
                     {"kl_99", comparison.kl_quantile(0.99)},
                     {"kl_max", comparison.kl_quantile(1)},
                     {"bytes", text.bytes},
                     {"bits_per_byte", bits_per_byte(comparison.nll(), text)},
                     {"chunks", rows},
                     {"reference", other.path}});
    json.update(run_json(model, *backend, text, seconds));
    print(json_text(json) + "\n");
    return;
  }
  print(
      fmt::format("\nKL divergence from {}, in nats: mean {:.6f}, median {:.6f}, 99 % {:.6f}, "
                  "largest {:.6f}\n",
                  printable_line(other.path), comparison.mean_kl(), comparison.kl_quantile(0.5),
                  comparison.kl_quantile(0.99), comparison.kl_quantile(1)));
  print(fmt::format("the same likeliest token: {:.2f} %\n", 100 * comparison.same_top()));
  print_run(*backend, text, seconds);
}

int eval(EvalOptions options) {
  if (options.paths.size() == 2) options.model.path = options.paths.front();
  const Model model = open_model(options.model);
  const Text text = read_text(options, require_tokenizer(model));
  if (options.compare.empty()) {
    evaluate(options, model, text);
  } else {
    compare(options, model, text);
  }
  return 0;
}

}  // namespace

void add_eval_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<EvalOptions>();
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
  command
      ->add_option("--compare", options->compare,
                   "KL divergence from this model's predictions, which count as the truth")
      ->option_text("FILE");
  command->add_flag("--json", options->json, "print one JSON object");
  add_model_options(*command, options->model);
  command->footer(
      "The text is encoded whole and read after token 0, in one state.\n\n"
      "Examples:\n"
      "  gander eval model.gguf text.txt --limit 4096\n"
      "  gander eval text.txt --json\n"
      "  gander eval model-q4_k.gguf text.txt --compare model-f16.gguf");
  command->callback([&action, options] { action = [options] { return eval(*options); }; });
}

}  // namespace gander
