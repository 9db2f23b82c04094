#include "apps/gander/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>
#include <random>

#include "apps/gander/terminal.h"
#include "base/error.h"

namespace gander {
namespace {

std::pair<TokenId, float> parse_logit_bias(const std::string& text) {
  const std::size_t equals = text.find('=');
  const char* begin = text.data();
  TokenId token = 0;
  if (equals != std::string::npos) {
    const auto [end, error] = std::from_chars(begin, begin + equals, token);
    char* value_end = nullptr;
    const float value = std::strtof(begin + equals + 1, &value_end);
    if (error == std::errc() && end == begin + equals && equals + 1 < text.size() &&
        *value_end == '\0') {
      return {token, value};
    }
  }
  fail("--logit-bias {}: expected ID=VALUE, for example 261=-100", text);
}

}  // namespace

std::string default_backend() {
  const char* const named = std::getenv("GANDER_BACKEND");
  return named != nullptr && *named != '\0' ? named : "auto";
}

void add_model_argument(CLI::App& command, ModelOptions& options) {
  command.add_option("MODEL", options.path,
                     "checkpoint: GGUF, safetensors or .pth; the built-in model when left out");
}

void add_vocabulary_option(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--vocab", options.vocabulary,
                  "vocabulary file, for checkpoints that have no tokenizer")
      ->option_text("FILE")
      ->group("Model");
}

void add_device_options(CLI::App& command, ModelOptions& options) {
  const std::string names = fmt::format("{}", fmt::join(backend_names(), "|"));
  command.add_option("--backend", options.backend, "what computes")
      ->option_text(names)
      ->group("Model");
  command.add_option("--device", options.device, "which GPU, by name or number")
      ->option_text("GPU")
      ->group("GPU");
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  add_device_options(command, options);
  command.add_option("--threads", options.threads, "threads of the CPU; default: one per core")
      ->option_text("N")
      ->check(CLI::Range(1U, 1024U))
      ->group("Model");
  add_vocabulary_option(command, options);
  command
      .add_flag("--no-memory-check", options.skip_memory_check,
                "load even when memory seems too small")
      ->group("Model");
  command.add_option("--sync", options.sync, "wait for the GPU after each of these; async: never")
      ->option_text("op|layer|token|async")
      ->check(CLI::IsMember({"op", "layer", "token", "async"}))
      ->group("GPU");
  command
      .add_option("--state-type", options.state_type, "what a GPU keeps the states of sequences in")
      ->option_text("f32|f16")
      ->check(CLI::IsMember({"f32", "f16"}))
      ->capture_default_str()
      ->group("GPU");
  command
      .add_flag("--unfused", options.unfused, "run the small kernels that check the fused stages")
      ->group("GPU");
  command
      .add_flag("--no-self-test", options.skip_self_test,
                "use the GPU without computing a part of the model with it first")
      ->group("GPU");
  command.add_option("--capture", options.capture, "Metal: record GPU work, for Xcode")
      ->option_text("FILE.gputrace")
      ->group("GPU");
}

void add_count(CLI::App& command, const char* name, std::uint32_t& value, const char* what,
               std::uint32_t most) {
  command.add_option(name, value, what)
      ->option_text("N")
      ->check(CLI::Range(1U, most))
      ->capture_default_str();
}

Model open_model(const ModelOptions& options) {
  return open_model(options.path.empty() ? builtin_model_path() : options.path, options.vocabulary);
}

BackendOptions backend_options(const ModelOptions& options) {
  BackendOptions backend;
  backend.threads = options.threads;
  backend.device = options.device;
  backend.capture = options.capture;
  backend.sync = options.sync;
  backend.unfused = options.unfused;
  backend.half_states = options.state_type == "f16";
  backend.self_test = !options.skip_self_test;
  backend.warn = [](std::string_view line) { report(fmt::format("gander: warning: {}", line)); };
  return backend;
}

std::unique_ptr<Backend> create_backend(const Model& model, const ModelOptions& options,
                                        std::uint32_t slots) {
  // On the way to an NVIDIA GPU weights take no more of this memory than a piece of them.
  if (!options.skip_memory_check && options.backend != "cuda") check_memory(model);
  Progress progress("loading", 1000);
  BackendOptions backend = backend_options(options);
  backend.slots = slots;
  backend.progress = [&progress](std::uint64_t done, std::uint64_t all) {
    progress.update(done * 1000 / all);
  };
  return create_backend(options.backend, model.weights, backend);
}

void add_sampler_options(CLI::App& command, SamplerOptions& options) {
  SamplerSettings& settings = options.settings;
  settings.temperature = 0.8F;
  settings.top_p = 0.9F;
  const auto add = [&](const std::string& names, auto& value, const std::string& what) {
    return command.add_option(names, value, what)
        ->option_text("X")
        ->capture_default_str()
        ->group("Sampling");
  };
  CLI::Option* temperature =
      add("--temperature,--temp", settings.temperature, "0 always takes the likeliest token");
  add("--top-k", settings.top_k, "only the K likeliest tokens; 0 is off")->option_text("K");
  add("--top-p", settings.top_p, "only the likeliest tokens of this total probability");
  add("--min-p", settings.min_p, "only tokens this likely against the likeliest");
  add("--typical", settings.typical_p, "locally typical sampling; 1 is off");
  add("--repetition-penalty", settings.repetition_penalty, "divides the logits of seen tokens");
  add("--presence-penalty", settings.presence_penalty, "subtracted once for a seen token");
  add("--frequency-penalty", settings.frequency_penalty, "subtracted per occurrence");
  add("--penalty-decay", settings.penalty_decay, "of the occurrence counts, per token");
  command.add_option("--logit-bias", options.logit_bias, "added to a token's logit; repeatable")
      ->option_text("ID=VALUE")
      ->allow_extra_args(false)
      ->group("Sampling");
  command.add_option("--seed", options.seed, "same seed, same text; default: random")
      ->option_text("N")
      ->group("Sampling");
  command.add_flag("--greedy", options.greedy, "the same as --temperature 0")
      ->excludes(temperature)
      ->group("Sampling");
}

SamplerSettings sampler_settings(const SamplerOptions& options) {
  SamplerSettings settings = options.settings;
  if (options.greedy) settings.temperature = 0;
  // 32 bits, so that every JSON reader keeps the number exactly.
  settings.seed = options.seed.value_or(std::random_device()());
  for (const std::string& text : options.logit_bias) {
    settings.logit_bias.push_back(parse_logit_bias(text));
  }
  return settings;
}

std::vector<TokenId> parse_token_ids(std::string_view text) {
  const auto separates = [](char c) {
    return std::string_view(", \t\r\n[]").find(c) != std::string_view::npos;
  };
  std::vector<TokenId> ids;
  const char* position = text.data();
  const char* const end = position + text.size();
  while (true) {
    position = std::find_if_not(position, end, separates);
    if (position == end) return ids;
    TokenId id = 0;
    const auto [stop, error] = std::from_chars(position, end, id);
    if (error != std::errc() || (stop != end && !separates(*stop))) {
      const char* word_end = std::min(std::find_if(position, end, separates), position + 40);
      fail("\"{}\" at offset {} is not a token id", std::string_view(position, word_end - position),
           position - text.data());
    }
    ids.push_back(id);
    position = stop;
  }
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  // Edit distance where two swapped neighbours count as one edit, over three rolling rows.
  const auto distance = [&](std::string_view other) {
    std::vector<std::size_t> before(other.size() + 1), previous(other.size() + 1),
        row(other.size() + 1);
    std::iota(previous.begin(), previous.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      row[0] = i;
      for (std::size_t j = 1; j <= other.size(); ++j) {
        const std::size_t change = word[i - 1] == other[j - 1] ? 0 : 1;
        row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + change});
        if (i > 1 && j > 1 && word[i - 1] == other[j - 2] && word[i - 2] == other[j - 1]) {
          row[j] = std::min(row[j], before[j - 2] + 1);
        }
      }
      std::swap(before, previous);
      std::swap(previous, row);
    }
    return previous[other.size()];
  };
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t edits = distance(candidate);
    if (edits < best_distance && edits < candidate.size()) {
      best = candidate;
      best_distance = edits;
    }
  }
  return best;
}

}  // namespace gander
