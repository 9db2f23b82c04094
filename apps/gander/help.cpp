#include "apps/gander/help.h"

#include <fmt/format.h>

#include <utility>

#include "apps/gander/options.h"

namespace gander {
namespace {

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(fmt::format("--{}", name));
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& program) {
  std::vector<std::string> names;
  for (const CLI::App* command : program.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

}  // namespace

void set_up(CLI::App& program) {
  program.set_version_flag("--version", program.get_name() + " " GANDER_VERSION,
                           "print the version");
  program.set_help_flag("-h,--help", "print this help");
  program.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  program.formatter(std::make_shared<HelpFormatter>());
}

std::vector<std::string> spellings(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back(fmt::format("-{}", name));
  for (const std::string& name : option.get_lnames()) names.push_back(fmt::format("--{}", name));
  return names;
}

HelpFormatter::HelpFormatter() {
  column_width(30);
}

std::string HelpFormatter::make_group(std::string group, bool is_positional,
                                      std::vector<const CLI::Option*> options) const {
  // The base class leaves two blank lines before every group but the first.
  const bool first = is_positional || group == "Options";
  const std::string text = CLI::Formatter::make_group(std::move(group), is_positional, options);
  return first ? text : text.substr(1);
}

std::string HelpFormatter::make_option_name(const CLI::Option* option, bool is_positional) const {
  if (is_positional) return option->get_name(true, false);
  return fmt::format("{}", fmt::join(spellings(*option), ", "));
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  const std::string& type = option->get_option_text();
  return type.empty() ? "" : " " + type;
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  const std::string value = option->get_default_str();
  return value.empty() ? option->get_description()
                       : fmt::format("{} (default: {})", option->get_description(), value);
}

std::string HelpFormatter::make_usage(const CLI::App* program, std::string name) const {
  const bool has_commands = !program->get_subcommands({}).empty();
  if (program->get_parent() == nullptr && has_commands) {
    return "Usage: gander COMMAND [OPTIONS]\n";
  }
  if (name.empty()) name = program->get_name();
  std::string usage = fmt::format("Usage: {} [OPTIONS]", name);
  for (const CLI::Option* option : program->get_options()) {
    if (!option->get_positional()) continue;
    usage += option->get_required() ? fmt::format(" {}", option->get_name(true, false))
                                    : fmt::format(" [{}]", option->get_name(true, false));
  }
  return usage + "\n";
}

std::string explain(CLI::App& program, const CLI::ParseError& error) {
  const CLI::App* parsed = &program;
  std::string help = program.get_name();
  for (auto below = parsed->get_subcommands(); !below.empty(); below = parsed->get_subcommands()) {
    parsed = below.front();
    help += " " + parsed->get_name();
  }
  const CLI::App& command = *parsed;
  help += " --help";
  const std::vector<std::string> unknown = program.remaining(true);
  if (unknown.empty()) return fmt::format("{} (see {})", error.what(), help);

  const std::string& word = unknown.front();
  std::string message;
  std::string near;
  if (word.size() > 1 && word.front() == '-') {
    const std::string flag = word.substr(0, word.find('='));
    message = fmt::format("unknown option {}", flag);
    near = nearest_name(flag, option_names(command));
  } else if (parsed == &program && !command_names(program).empty()) {
    message = fmt::format("unknown command {}", word);
    near = nearest_name(word, command_names(program));
  } else {
    message = fmt::format("unexpected argument {}", word);
  }
  if (!near.empty()) message += fmt::format(", did you mean {}?", near);
  return fmt::format("{} (see {})", message, help);
}

}  // namespace gander
