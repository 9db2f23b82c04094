#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "apps/gander/commands.h"
#include "apps/gander/gguf_metadata.h"
#include "apps/gander/interrupt.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "backend/cpu/calibration.h"
#include "backend/cpu/thread_pool.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/recipe.h"

namespace gander {
namespace {

namespace fs = std::filesystem;

struct QuantizeOptions {
  std::string input, output;
  std::string vocabulary;
  std::string type, mix{mixes().front().name};
  std::vector<std::string> exceptions;  ///< PART=TYPE
  std::vector<std::string> metadata;    ///< KEY=VALUE
  std::string calibration;
  std::size_t calibration_tokens = 8192;
  unsigned threads = 0;
  bool nearest = false;
  bool json = false;
};

constexpr DataType kTypes[] = {DataType::Q4_K, DataType::Q5_K, DataType::Q6_K, DataType::Q8_0,
                               DataType::Q4_0, DataType::F16,  DataType::BF16};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return result;
}

std::vector<std::string> type_names() {
  std::vector<std::string> names;
  for (const DataType type : kTypes) names.push_back(lower(name(type)));
  return names;
}

DataType parse_type(const std::string& option, const std::string& text) {
  const std::optional<DataType> type = data_type_from_name(text);
  if (type && std::find(std::begin(kTypes), std::end(kTypes), *type) != std::end(kTypes)) {
    return *type;
  }
  fail("{}: there is no type called {}; the types are {}", option, text,
       fmt::join(type_names(), ", "));
}

Recipe parse_recipe(const QuantizeOptions& options) {
  Recipe recipe{parse_type("--type", options.type), options.mix, {}};
  for (const std::string& text : options.exceptions) {
    const std::size_t equals = text.rfind('=');
    if (equals == 0 || equals == std::string::npos) {
      fail("--tensor {}: expected PART=TYPE, for example channel_mix_value=q6_k", text);
    }
    recipe.exceptions.emplace_back(text.substr(0, equals),
                                   parse_type("--tensor", text.substr(equals + 1)));
  }
  return recipe;
}

// Written over, a mapped file would change under the reader's hands. A checkpoint of several files
// protects its whole folder's.
void check_output(const QuantizeOptions& options) {
  std::error_code ignored;
  if (!fs::exists(options.output, ignored)) return;
  if (fs::equivalent(options.input, options.output, ignored)) {
    fail("{}: output and input are the same file", options.output);
  }
  const fs::path input(options.input);
  const bool several = fs::is_directory(input, ignored) || input.extension() == ".json";
  const fs::path folder = fs::is_directory(input, ignored) ? input : input.parent_path();
  const fs::path output_folder = fs::absolute(options.output, ignored).parent_path();
  if (several && fs::equivalent(fs::absolute(folder, ignored), output_folder, ignored)) {
    fail("{}: this would replace a file in the input's folder; choose another name",
         options.output);
  }
}

struct Calibrated {
  Importance importance;
  std::size_t tokens = 0;
};

/// Empty when Ctrl-C ended it.
std::optional<Calibrated> calibrate(const QuantizeOptions& options, const Model& model,
                                    unsigned threads, const InterruptGuard& guard) {
  const Tokenizer& tokenizer = require_tokenizer(model);
  std::vector<TokenId> tokens = {0};
  tokenizer.encode(read_input(options.calibration), tokens);
  if (tokens.size() == 1) fail("{} is empty: it cannot calibrate", options.calibration);
  tokens.resize(std::min(tokens.size(), options.calibration_tokens));
  constexpr std::size_t kFewTokens = 512;
  if (tokens.size() < kFewTokens) {
    report(fmt::format("warning: {} tokens of calibration text are few; some thousands are better",
                       tokens.size()));
  }
  Progress progress("calibrating", 1000);
  const CalibrationOptions calibration = {
      threads, [&](double share) {
        progress.update(static_cast<std::uint64_t>(1000 * share));
        return !guard.requested();
      }};
  std::optional<Importance> importance = measure_importance(model.weights, tokens, calibration);
  if (!importance) return std::nullopt;
  return Calibrated{std::move(*importance), tokens.size()};
}

/// What was written, for people and as JSON.
struct Summary {
  struct Total {
    std::size_t tensors = 0;
    std::uint64_t bytes = 0;
  };
  std::map<std::string, Total> types;
  std::vector<std::string> replaced;  ///< matrices whose columns do not fit the type
  bool requantised = false;           ///< whether the input was quantised already
  std::uint64_t weights = 0, bytes = 0;
};

Summary summarise(const Recipe& recipe, const Weights& weights) {
  Summary summary;
  const ChooseType choose = choose_by(recipe);
  const auto watch = [&](std::string_view name, const Matrix& matrix) {
    summary.requantised |= info(matrix.type).block_size > 1;
    const DataType type = choose(name, matrix);
    if (type != intended_type(recipe, name)) summary.replaced.emplace_back(name);
    return type;
  };
  for (const GgufTensor& tensor : exported_tensors(weights, watch)) {
    std::uint64_t count = 1;
    for (const std::uint64_t size : tensor.shape) count *= size;
    const std::uint64_t bytes = row_bytes(tensor.type, count);
    Summary::Total& total = summary.types[std::string(name(tensor.type))];
    total.tensors += 1;
    total.bytes += bytes;
    summary.weights += count;
    summary.bytes += bytes;
  }
  return summary;
}

double bits_per_weight(const Summary& summary) {
  return 8 * static_cast<double>(summary.bytes) / static_cast<double>(summary.weights);
}

Json summary_json(const QuantizeOptions& options, const Recipe& recipe, const Summary& summary,
                  const std::optional<Calibrated>& calibrated, double seconds) {
  Json types = Json::object();
  for (const auto& [type, total] : summary.types) {
    types[type] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
  }
  return {{"input", options.input},
          {"output", options.output},
          {"bytes", fs::file_size(options.output)},
          {"weights", summary.weights},
          {"bits_per_weight", bits_per_weight(summary)},
          {"type", name(recipe.type)},
          {"mix", recipe.mix},
          {"types", types},
          {"replaced", summary.replaced},
          {"requantised", summary.requantised},
          {"calibration_tokens", calibrated ? calibrated->tokens : 0},
          {"seconds", seconds}};
}

void print_summary(const QuantizeOptions& options, const Recipe& recipe, const Summary& summary,
                   const std::optional<Calibrated>& calibrated, double seconds) {
  print(fmt::format("{}: {}, {:.2f} bits per weight, {:.1f} s\n", printable_line(options.output),
                    bytes_text(fs::file_size(options.output)), bits_per_weight(summary), seconds));
  for (const auto& [type, total] : summary.types) {
    print(fmt::format("  {:<5} {:>4} tensor{} {:>9}\n", type, total.tensors,
                      total.tensors == 1 ? " " : "s", bytes_text(total.bytes)));
  }
  if (calibrated) {
    print(fmt::format("calibrated on {} tokens of {}\n", grouped(calibrated->tokens),
                      printable_line(options.calibration)));
  }
  if (!summary.replaced.empty()) {
    report(fmt::format(
        "note: {} matri{} no whole blocks of {} in a row and took a larger type: {}{}",
        summary.replaced.size(), summary.replaced.size() == 1 ? "x has" : "ces have",
        name(recipe.type), summary.replaced.front(), summary.replaced.size() == 1 ? "" : ", …"));
  }
  if (summary.requantised) {
    report("note: the input is quantised already; rounding twice loses more than once");
  }
}

int quantize(const QuantizeOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const Recipe recipe = parse_recipe(options);
  const ChooseType choose = choose_by(recipe);
  check_output(options);
  const GgufMetadata given = parse_metadata(options.metadata);
  const Model model = open_model(options.input, options.vocabulary);
  const unsigned threads =
      options.threads == 0 ? usable_cores() : std::min(options.threads, usable_cores());

  const InterruptGuard guard(InterruptGuard::Second::Waits);
  std::optional<Calibrated> calibrated;
  if (!options.calibration.empty()) {
    calibrated = calibrate(options, model, threads, guard);
    if (!calibrated) return kInterruptedExit;
  }
  const Summary summary = summarise(recipe, *model.weights);
  Progress progress("quantising", summary.weights);
  const ExportOptions exporting = {
      .metadata = metadata_for(open_checkpoint(options.input), recipe, given),
      .rounding = options.nearest ? Rounding::Nearest : Rounding::Weighted,
      .importance = calibrated ? &calibrated->importance : nullptr,
      .threads = threads,
      .progress = [&](std::uint64_t weights) {
        progress.update(weights);
        return !guard.requested();
      }};
  if (!export_gguf(options.output, *model.weights, model.tokenizer.get(), choose, exporting)) {
    return kInterruptedExit;
  }
  progress.clear();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (options.json) {
    print(json_text(summary_json(options, recipe, summary, calibrated, seconds)) + "\n");
    return 0;
  }
  print_summary(options, recipe, summary, calibrated, seconds);
  if (model.tokenizer == nullptr) {
    report(fmt::format("note: without a tokenizer: {}", model.tokenizer_origin));
  }
  return 0;
}

}  // namespace

void add_quantize_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<QuantizeOptions>();
  CLI::App* command =
      program.add_subcommand("quantize", "Convert a checkpoint to GGUF, smaller if you like");
  command->add_option("IN", options->input, "checkpoint: GGUF, safetensors or .pth")->required();
  command->add_option("OUT", options->output, "the GGUF file to write")->required();
  command->add_option("--type", options->type, "type of the large matrices")
      ->option_text(fmt::format("{}", fmt::join(type_names(), "|")))
      ->required();
  std::vector<std::string_view> names;
  for (const Mix& mix : mixes()) names.push_back(mix.name);
  command->add_option("--mix", options->mix, "which matrices get more bits, see below")
      ->option_text(fmt::format("{}", fmt::join(names, "|")))
      ->capture_default_str();
  command
      ->add_option("--calibrate", options->calibration,
                   "text like what the model will read: its errors are kept where it does not look")
      ->option_text("FILE");
  command
      ->add_option("--calibrate-tokens", options->calibration_tokens, "use at most N tokens of it")
      ->option_text("N")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--tensor", options->exceptions,
                   "another type for the matrices whose GGUF name contains PART; repeatable")
      ->option_text("PART=TYPE")
      ->allow_extra_args(false);
  command
      ->add_option("--metadata", options->metadata,
                   "a GGUF key to write, a text or [a,list,of,texts]; repeatable")
      ->option_text("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--vocab", options->vocabulary,
                   "vocabulary file, for checkpoints that have no tokenizer")
      ->option_text("FILE");
  command->add_option("--threads", options->threads, "default: one per core")
      ->option_text("N")
      ->check(CLI::Range(1U, 1024U));
  command->add_flag("--round-to-nearest", options->nearest,
                    "do not search for the best scales: faster, worse");
  command->add_flag("--json", options->json, "print one JSON object");
  std::string mixes_text;
  for (const Mix& mix : mixes())
    mixes_text += fmt::format("  {:<9} {}\n", mix.name, mix.description);
  command->footer(
      fmt::format("Mixes:\n{}\n"
                  "Examples:\n"
                  "  gander quantize model.pth model.gguf --type q8_0\n"
                  "  gander quantize model.pth small.gguf --type q4_k --calibrate text.txt\n"
                  "  gander quantize model.gguf out.gguf --type q4_k --tensor output=q6_k",
                  mixes_text));
  command->callback([&action, options] { action = [options] { return quantize(*options); }; });
}

}  // namespace gander
