#include <fmt/format.h>

#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/help.h"
#include "apps/gander/terminal.h"

namespace gander {
namespace {

// The scripts are made from the options the program really has.

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
  return text;
}

std::vector<CLI::App*> commands_of(CLI::App& program) {
  return program.get_subcommands([](CLI::App* command) { return !command->get_name().empty(); });
}

// The command's own, and those of its parts (`bench sync`) that have other names.
std::vector<const CLI::Option*> flags_of(CLI::App& command) {
  std::vector<const CLI::Option*> flags;
  const auto known = [&](const CLI::Option* option) {
    return std::ranges::any_of(
        flags, [&](const CLI::Option* flag) { return flag->get_name() == option->get_name(); });
  };
  std::vector<CLI::App*> parts = commands_of(command);
  parts.insert(parts.begin(), &command);
  for (const CLI::App* part : parts) {
    for (const CLI::Option* option : part->get_options()) {
      if (option->nonpositional() && !known(option)) flags.push_back(option);
    }
  }
  return flags;
}

// "sync roofline"; empty for most commands.
std::string parts_of(CLI::App& command) {
  std::string names;
  for (const CLI::App* part : commands_of(command)) {
    names += (names.empty() ? "" : " ") + part->get_name();
  }
  return names;
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_min() > 0;
}

// "auto|cpu" as words; empty when the value is free.
std::string choices(const CLI::Option& option) {
  const std::string& type = option.get_option_text();
  return type.find('|') == std::string::npos ? "" : replaced(type, "|", " ");
}

std::string bash_script(CLI::App& program) {
  std::string names;
  std::string options;
  std::string values;
  std::string parts;
  for (CLI::App* command : commands_of(program)) {
    if (const std::string words = parts_of(*command); !words.empty()) {
      parts += fmt::format("    {}) words='{}' ;;\n", command->get_name(), words);
    }
    names += (names.empty() ? "" : " ") + command->get_name();
    std::string words;
    for (const CLI::Option* option : flags_of(*command)) {
      for (const std::string& name : spellings(*option)) words += " " + name;
      if (!choices(*option).empty()) {
        values += fmt::format("    {}.--{}) words='{}' ;;\n", command->get_name(),
                              option->get_lnames().front(), choices(*option));
      }
    }
    options += fmt::format("      {}) words='{}' ;;\n", command->get_name(), words.substr(1));
  }
  return fmt::format(R"(_gander() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words=
  if (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W '{} --help --version' -- "$current"))
    return
  fi
  if (( COMP_CWORD == 2 )); then
    case ${{COMP_WORDS[1]}} in
{}    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    (( ${{#COMPREPLY[@]}} )) && return
    words=
  fi
  case ${{COMP_WORDS[1]}}.$previous in
{}    completion.completion) words='bash zsh fish' ;;
  esac
  if [[ -z $words && $current == -* ]]; then
    case ${{COMP_WORDS[1]}} in
{}    esac
  fi
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    compopt -o filenames
    local IFS=$'\n'
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -F _gander gander
)",
                     names, parts, values, options);
}

std::string zsh_script(CLI::App& program) {
  // Inside '…[…]:…' of _arguments.
  const auto escaped = [](std::string text) {
    for (const std::string_view special : {"\\", "[", "]", ":"}) {
      text = replaced(std::move(text), special, "\\" + std::string(special));
    }
    return replaced(std::move(text), "'", "'\\''");
  };
  std::string names;
  std::string cases;
  for (CLI::App* command : commands_of(program)) {
    names += fmt::format("    '{}:{}'\n", command->get_name(), escaped(command->get_description()));
    cases += fmt::format("    {})\n      _arguments -s", command->get_name());
    for (const CLI::Option* option : flags_of(*command)) {
      std::string value;
      if (!choices(*option).empty()) {
        value = fmt::format(":value:({})", choices(*option));
      } else if (takes_value(*option)) {
        value = fmt::format(":{}:{}", escaped(option->get_option_text()),
                            option->get_option_text() == "FILE" ? "_files" : "");
      }
      // Repeatable when it is one that collects values.
      const char* repeat = option->get_items_expected_max() > 1 ? "*" : "";
      for (const std::string& name : spellings(*option)) {
        cases += fmt::format(" \\\n        '{}{}[{}]{}'", repeat, name,
                             escaped(option->get_description()), value);
      }
    }
    const std::string parts = parts_of(*command);
    if (!parts.empty())
      cases += fmt::format(
          " \\\n        '1:command or file:_alternative \"commands:command:({})\" "
          "\"files:file:_files\"'",
          parts);
    cases += command->get_name() == "completion" ? " \\\n        '1:shell:(bash zsh fish)' ;;\n"
                                                 : " \\\n        '*:file:_files' ;;\n";
  }
  return fmt::format(R"(#compdef gander
_gander() {{
  local -a commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
}}
if [[ $funcstack[1] == _gander ]]; then _gander "$@"; else compdef _gander gander; fi
)",
                     names, cases);
}

std::string fish_script(CLI::App& program) {
  const auto escaped = [](std::string text) {
    return replaced(replaced(std::move(text), "\\", "\\\\"), "'", "\\'");
  };
  std::string script =
      "complete -c gander -n __fish_use_subcommand -f -l help -d 'print help'\n"
      "complete -c gander -n __fish_use_subcommand -f -l version -d 'print the version'\n";
  for (CLI::App* command : commands_of(program)) {
    script += fmt::format("complete -c gander -n __fish_use_subcommand -f -a {} -d '{}'\n",
                          command->get_name(), escaped(command->get_description()));
    const std::string condition =
        fmt::format("-n '__fish_seen_subcommand_from {}'", command->get_name());
    if (const std::string parts = parts_of(*command); !parts.empty()) {
      script += fmt::format("complete -c gander {} -a '{}'\n", condition, parts);
    }
    for (const CLI::Option* option : flags_of(*command)) {
      std::string line = fmt::format("complete -c gander {}", condition);
      for (const std::string& name : option->get_snames()) line += " -s " + name;
      for (const std::string& name : option->get_lnames()) line += " -l " + name;
      if (!choices(*option).empty()) {
        line += fmt::format(" -x -a '{}'", choices(*option));
      } else if (takes_value(*option)) {
        line += option->get_option_text() == "FILE" ? " -r" : " -x";
      }
      script += fmt::format("{} -d '{}'\n", line, escaped(option->get_description()));
    }
  }
  return script +
         "complete -c gander -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n";
}

}  // namespace

void add_completion_command(CLI::App& program, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n"
      "  source <(gander completion bash)\n"
      "  gander completion zsh > \"${fpath[1]}/_gander\"\n"
      "  gander completion fish > ~/.config/fish/completions/gander.fish");
  command->callback([&action, &program, shell] {
    action = [&program, shell] {
      print(*shell == "bash"  ? bash_script(program)
            : *shell == "zsh" ? zsh_script(program)
                              : fish_script(program));
      return 0;
    };
  });
}

}  // namespace gander
