#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/completion_script.h"
#include "apps/gander/terminal.h"

namespace gander {

void add_completion_command(CLI::App& program, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("SHELL", *shell, "whose script")
      ->option_text(kShells)
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n"
      "  source <(gander completion bash)\n"
      "  gander completion zsh > \"${fpath[1]}/_gander\"\n"
      "  gander completion fish > ~/.config/fish/completions/gander.fish");
  command->callback([&action, &program, shell] {
    action = [&program, shell] { return print(completion_script(program, *shell)), 0; };
  });
}

}  // namespace gander
