#include "apps/gander/completion_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "apps/gander/help.h"

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

// Of the first argument, when it is one of a few.
std::string argument_choices(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) return choices(*option);
  }
  return "";
}

// The lines of bash's `case`s for a command, or for a program without commands, whose name is "".
struct BashCases {
  std::string parts, values, options;

  void add(const std::string& name, CLI::App& command) {
    if (const std::string words = parts_of(command); !words.empty()) {
      parts += fmt::format("      {}) words='{}' ;;\n", name, words);
    }
    if (const std::string words = argument_choices(command); !words.empty()) {
      values += fmt::format("    {}.{}) words='{}' ;;\n", name, name, words);
    }
    std::string words;
    for (const CLI::Option* option : flags_of(command)) {
      for (const std::string& spelling : spellings(*option)) words += " " + spelling;
      if (!choices(*option).empty()) {
        values += fmt::format("    {}.--{}) words='{}' ;;\n", name, option->get_lnames().front(),
                              choices(*option));
      }
    }
    options += fmt::format("      '{}') words='{}' ;;\n", name, words.substr(1));
  }
};

std::string bash_script(CLI::App& program) {
  BashCases cases;
  std::string choose_command;
  if (const std::vector<CLI::App*> commands = commands_of(program); commands.empty()) {
    cases.add("", program);
  } else {
    for (CLI::App* command : commands) cases.add(command->get_name(), *command);
    choose_command = fmt::format(R"(  command=${{COMP_WORDS[1]}}
  if (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W '{} --help --version' -- "$current"))
    return
  fi
  if (( COMP_CWORD == 2 )); then
    case $command in
{}    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    (( ${{#COMPREPLY[@]}} )) && return
    words=
  fi
)",
                                 parts_of(program), cases.parts);
  }
  const std::string function = "_" + replaced(program.get_name(), "-", "_");
  return fmt::format(R"({0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words= command=
{1}  case $command.$previous in
{2}  esac
  if [[ -z $words && $current == -* ]]; then
    case $command in
{3}    esac
  fi
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    compopt -o filenames
    local IFS=$'\n'
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -F {0} {4}
)",
                     function, choose_command, cases.values, cases.options, program.get_name());
}

// Inside '…[…]:…' of zsh's _arguments.
std::string zsh_escaped(std::string text) {
  for (const std::string_view special : {"\\", "[", "]", ":"}) {
    text = replaced(std::move(text), special, "\\" + std::string(special));
  }
  return replaced(std::move(text), "'", "'\\''");
}

// The arguments of _arguments, a line each.
std::string zsh_arguments(CLI::App& command) {
  std::string lines;
  const auto add = [&lines](const std::string& line) { lines += " \\\n        '" + line + "'"; };
  for (const CLI::Option* option : flags_of(command)) {
    std::string value;
    if (!choices(*option).empty()) {
      value = fmt::format(":value:({})", choices(*option));
    } else if (takes_value(*option)) {
      const std::string& text = option->get_option_text();
      value = fmt::format(":{}:{}", zsh_escaped(text),
                          text == "FILE"     ? "_files"
                          : text == "FOLDER" ? "_files -/"
                                             : "");
    }
    // Repeatable when it is one that collects values.
    const char* repeat = option->get_items_expected_max() > 1 ? "*" : "";
    for (const std::string& name : spellings(*option)) {
      add(fmt::format("{}{}[{}]{}", repeat, name, zsh_escaped(option->get_description()), value));
    }
  }
  if (const std::string parts = parts_of(command); !parts.empty()) {
    add(fmt::format(
        "1:command or file:_alternative \"commands:command:({})\" \"files:file:_files\"", parts));
  }
  const std::string words = argument_choices(command);
  add(words.empty() ? "*:file:_files" : fmt::format("1:value:({})", words));
  return lines;
}

std::string zsh_script(CLI::App& program) {
  std::string body;
  if (const std::vector<CLI::App*> commands = commands_of(program); commands.empty()) {
    body = fmt::format("  _arguments -s{}\n", zsh_arguments(program));
  } else {
    std::string names;
    std::string cases;
    for (CLI::App* command : commands) {
      names += fmt::format("    '{}:{}'\n", command->get_name(),
                           zsh_escaped(command->get_description()));
      cases += fmt::format("    {})\n      _arguments -s{} ;;\n", command->get_name(),
                           zsh_arguments(*command));
    }
    body = fmt::format(R"(  local -a commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
)",
                       names, cases);
  }
  return fmt::format(R"(#compdef {0}
_{0}() {{
{1}}}
if [[ $funcstack[1] == _{0} ]]; then _{0} "$@"; else compdef _{0} {0}; fi
)",
                     program.get_name(), body);
}

std::string fish_escaped(std::string text) {
  return replaced(replaced(std::move(text), "\\", "\\\\"), "'", "\\'");
}

// fish's lines for a command's options, each with what they begin with.
std::string fish_lines(const std::string& begin, CLI::App& command) {
  std::string lines;
  if (const std::string words = parts_of(command); !words.empty()) {
    lines += fmt::format("{} -a '{}'\n", begin, words);
  }
  if (const std::string words = argument_choices(command); !words.empty()) {
    lines += fmt::format("{} -f -a '{}'\n", begin, words);
  }
  for (const CLI::Option* option : flags_of(command)) {
    std::string line = begin;
    for (const std::string& name : option->get_snames()) line += " -s " + name;
    for (const std::string& name : option->get_lnames()) line += " -l " + name;
    if (!choices(*option).empty()) {
      line += fmt::format(" -x -a '{}'", choices(*option));
    } else if (takes_value(*option)) {
      const std::string& text = option->get_option_text();
      line += text == "FILE" || text == "FOLDER" ? " -r" : " -x";
    }
    lines += fmt::format("{} -d '{}'\n", line, fish_escaped(option->get_description()));
  }
  return lines;
}

std::string fish_script(CLI::App& program) {
  const std::string begin = "complete -c " + program.get_name();
  const std::vector<CLI::App*> commands = commands_of(program);
  if (commands.empty()) return fish_lines(begin, program);
  const std::string first = begin + " -n __fish_use_subcommand -f";
  std::string script =
      fmt::format("{0} -l help -d 'print help'\n{0} -l version -d 'print the version'\n", first);
  for (CLI::App* command : commands) {
    script += fmt::format("{} -a {} -d '{}'\n", first, command->get_name(),
                          fish_escaped(command->get_description()));
    script += fish_lines(
        fmt::format("{} -n '__fish_seen_subcommand_from {}'", begin, command->get_name()),
        *command);
  }
  return script;
}

}  // namespace

std::string completion_script(CLI::App& program, std::string_view shell) {
  return shell == "bash"  ? bash_script(program)
         : shell == "zsh" ? zsh_script(program)
                          : fish_script(program);
}

}  // namespace gander
