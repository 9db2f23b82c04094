#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/interrupt.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "apps/gander/text_input.h"
#include "base/error.h"
#include "engine/session.h"

namespace gander {
namespace {

struct RunOptions {
  ModelOptions model;
  SamplerOptions sampler;
  GenerateOptions generate;
  std::string prompt, prompt_file, load_path, save_path;
  CLI::Option *prompt_option = nullptr, *prompt_file_option = nullptr, *echo_option = nullptr;
  bool echo = false, ignore_end = false, json = false, quiet = false, verbose = false;
};

std::string find_prompt(const RunOptions& options) {
  if (options.prompt_option->count() != 0) {
    if (options.prompt.empty()) fail("the prompt is empty: give some text after -p");
    require_utf8(options.prompt, "the prompt");
    return options.prompt;
  }
  const bool given = options.prompt_file_option->count() != 0;
  if (!given && input_is_terminal()) {
    fail("no prompt: give -p TEXT, -f FILE, or pipe a text in");
  }
  const std::string path = given ? options.prompt_file : "-";
  const std::string what = path == "-" ? "the prompt on standard input" : path;
  std::string text = read_input(path);
  // Editors and echo end a text with a newline that nobody meant as part of the prompt.
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) fail("{} is empty: there is nothing to continue", what);
  require_utf8(text, what);
  return text;
}

std::string_view reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::EndOfText:
      return "end_of_text";
    case StopReason::StopString:
      return "stop_string";
    case StopReason::Length:
      return "length";
    case StopReason::Cancelled:
      return "cancelled";
  }
  return "";
}

double per_second(std::uint32_t tokens, double seconds) {
  return seconds > 0 ? tokens / seconds : 0;
}

Json result_json(const GenerateResult& result, const SamplerSettings& settings, Session& session) {
  return {{"text", result.text},
          {"prompt_tokens", result.prompt_tokens},
          {"tokens", result.tokens},
          {"stop_reason", reason_name(result.reason)},
          {"timings",
           {{"prompt_seconds", result.prompt_seconds},
            {"prompt_tokens_per_second", per_second(result.prompt_tokens, result.prompt_seconds)},
            {"seconds", result.seconds},
            {"tokens_per_second", per_second(result.tokens, result.seconds)}}},
          {"settings", settings_json(settings)},
          {"model", session.model().path},
          {"backend", session.backend().description()}};
}

void report_speed(const GenerateResult& result) {
  report(styled(
      Stream::Error, Style::Dim,
      fmt::format("prompt {} tokens, {:.0f} tok/s; generated {} tokens, {:.0f} tok/s",
                  result.prompt_tokens, per_second(result.prompt_tokens, result.prompt_seconds),
                  result.tokens, per_second(result.tokens, result.seconds))));
}

// Reads the prompt, and generates nothing.
GenerateResult read_prompt(Session& session) {
  const std::size_t before = session.tokens().size();
  const auto begin = std::chrono::steady_clock::now();
  session.advance();
  GenerateResult result;
  result.prompt_tokens = static_cast<std::uint32_t>(session.tokens().size() - before);
  result.prompt_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

// Streams the continuation to stdout; Ctrl-C ends the generation.
GenerateResult stream(Session& session, Sampler& sampler, const RunOptions& options,
                      std::string_view prompt) {
  const bool terminal = output_is_terminal();
  const bool echo = options.echo_option->count() != 0 ? options.echo : terminal;
  if (echo && !options.json) {
    print(terminal ? styled(Stream::Output, Style::Dim, printable(prompt)) : std::string(prompt));
    flush_output();
  }
  const InterruptGuard guard;
  bool ends_in_newline = false;
  GenerateResult result = session.generate(sampler, options.generate, [&](std::string_view piece) {
    if (!options.json && !piece.empty()) {
      print(terminal ? printable(piece) : std::string(piece));
      flush_output();
      ends_in_newline = piece.ends_with('\n');
    }
    return !guard.requested();
  });
  if (!options.json && !ends_in_newline) print("\n");
  return result;
}

int run(RunOptions options) {
  const std::string prompt = find_prompt(options);
  const SamplerSettings settings = sampler_settings(options.sampler);
  options.generate.stop_at_end_of_text = !options.ignore_end;
  const Model model = open_model(options.model);
  Sampler sampler(settings, model.config().vocab_size, &require_tokenizer(model));
  Session session(model, create_backend(model, options.model));
  if (options.verbose) {
    report(fmt::format("model {} ({}), {}, seed {}", model.path, model.format,
                       session.backend().description(), settings.seed));
  }
  if (!options.load_path.empty()) load_session(options.load_path, session);
  session.append(prompt);
  const GenerateResult result = options.generate.max_tokens == 0
                                    ? read_prompt(session)
                                    : stream(session, sampler, options, prompt);
  if (options.json) print(json_text(result_json(result, settings, session)) + "\n");
  flush_output();
  if (!options.quiet) report_speed(result);
  if (result.reason == StopReason::Cancelled) return kInterruptedExit;
  if (!options.save_path.empty()) {
    const InterruptGuard guard(InterruptGuard::Second::Waits);
    save_session(options.save_path, session);
    if (guard.requested()) return kInterruptedExit;
  }
  return 0;
}

void add_options(CLI::App& command, RunOptions& options) {
  add_model_argument(command, options.model);
  options.prompt_option =
      command.add_option("-p,--prompt", options.prompt, "text to continue")->option_text("TEXT");
  options.prompt_file_option =
      command
          .add_option("-f,--file", options.prompt_file,
                      "read the prompt from a file; - is stdin (the default when it is piped)")
          ->option_text("FILE")
          ->excludes(options.prompt_option);
  command.add_option("-n,--tokens", options.generate.max_tokens, "generate at most N tokens")
      ->option_text("N")
      ->capture_default_str();
  command.add_option("--stop", options.generate.stops, "stop before this text; repeatable")
      ->option_text("TEXT")
      ->allow_extra_args(false);
  command.add_flag("--ignore-end", options.ignore_end, "go on after the end-of-text token");
  command.add_option("--state", options.load_path, "go on from a saved or state-tuned state")
      ->option_text("FILE");
  command.add_option("--save-state", options.save_path, "save the state at the end")
      ->option_text("FILE");
  options.echo_option =
      command.add_flag("--echo,!--no-echo", options.echo,
                       "print the prompt, too; the default on a terminal, off elsewhere");
  command.add_flag("--json", options.json, "print one JSON object at the end");
  command.add_flag("-q,--quiet", options.quiet, "no closing line with speeds");
  command.add_flag("-v,--verbose", options.verbose, "say what runs, and the seed");
  add_sampler_options(command, options.sampler);
  add_model_options(command, options.model);
}

}  // namespace

void add_run_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = program.add_subcommand("run", "Continue a text");
  add_options(*command, *options);
  command->footer(
      "The text goes to stdout as it is generated, everything else to stderr.\n\n"
      "Examples:\n"
      "  gander run -p \"Once upon a time\"\n"
      "  gander run model.gguf -f story.txt -n 500 --temp 0.7 --top-p 0.8\n"
      "  gander run model.gguf -p \"The capital of France is\" --greedy --json\n"
      "  cat prompt.txt | gander run model.gguf --stop END");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace gander
