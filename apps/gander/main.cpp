#include <fmt/format.h>
#include <signal.h>

#include <clocale>
#include <exception>
#include <memory>
#include <new>

#include "apps/gander/commands.h"
#include "apps/gander/help.h"
#include "apps/gander/interrupt.h"
#include "apps/gander/terminal.h"
#include "base/error.h"

namespace gander {
namespace {

constexpr int kFailure = 1;

int run_program(int argc, char** argv) {
  CLI::App program("Runs RWKV-7 language models.", "gander");
  set_up(program);
  Action action;
  add_run_command(program, action);
  add_chat_command(program, action);
  add_eval_command(program, action);
  add_bench_command(program, action);
  add_logits_command(program, action);
  add_tokenize_command(program, action);
  add_inspect_command(program, action);
  add_program_command(program, action);
  add_selftest_command(program, action);
  add_tune_command(program, action);
  add_quantize_command(program, action);
  add_completion_command(program, action);
  for (CLI::App* command : program.get_subcommands({})) command->group("Commands");
  program.footer(
      "Examples:\n"
      "  gander run -p \"Once upon a time\"      a story from the built-in model\n"
      "  gander chat                           talk to it\n"
      "  gander chat model.gguf --think        talk to your own\n"
      "  gander COMMAND --help                 options and examples of a command");
  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForVersion& version) {
    action = [text = fmt::format("{}\n", version.what())] { return print(text), 0; };
  } catch (const CLI::Success&) {
    action = [&program] { return print(program.help()), 0; };
  } catch (const CLI::ParseError& error) {
    fail("{}", explain(program, error));
  }
  if (!action && argc > 1) fail("no command given (see gander --help)");
  if (!action) action = [&program] { return print(program.help()), 0; };
  const int code = action();
  flush_output();
  return code;
}

}  // namespace
}  // namespace gander

int main(int argc, char** argv) {
  using gander::report;
  // A reader that went away (`gander run | head`) ends the program without a word.
  ::signal(SIGPIPE, SIG_DFL);
  std::setlocale(LC_CTYPE, "");
  gander::handle_interrupts();
  std::string message;
  try {
    return gander::run_program(argc, argv);
  } catch (const std::bad_alloc&) {
    message = "out of memory: close other programs, or use a smaller model";
  } catch (const std::exception& error) {
    message = error.what();
  }
  report("gander: " + gander::printable_line(message));
  return gander::kFailure;
}
