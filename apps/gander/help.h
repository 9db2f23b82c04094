#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace gander {

/// How --help prints options: "-n, --tokens N   what it does (default: 256)".
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override;
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
  std::string make_usage(const CLI::App* program, std::string name) const override;
};

/// Gives a program --version and --help; an option given twice counts as it was last, so that a
/// script's defaults can be overridden.
void set_up(CLI::App& program);

/// "-n", "--tokens"
std::vector<std::string> spellings(const CLI::Option& option);

/// What is wrong with a command line, in one line, with the nearest right name for a misspelt one.
std::string explain(CLI::App& program, const CLI::ParseError& error);

}  // namespace gander
