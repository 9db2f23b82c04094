#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

namespace gander {

/// The shells that completion_script knows, as an option's text.
inline constexpr const char* kShells = "bash|zsh|fish";

/// A script by which a shell completes a program's command line: its commands, if it has any, the
/// names of options, and the values of options and arguments whose text lists them ("auto|cpu").
/// The script defines one function and registers it under the program's name.
std::string completion_script(CLI::App& program, std::string_view shell);

}  // namespace gander
