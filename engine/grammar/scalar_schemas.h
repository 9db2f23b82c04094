#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "engine/grammar/pushdown.h"
#include "engine/grammar/schema.h"

namespace gander {

/// A keyword's number of things, at most 1e9. Throws Error when it is none.
std::uint32_t whole_number(const Schema& schema, const char* keyword, std::uint32_t otherwise,
                           const std::string& path);

/// Adds strings and numbers as schemas describe them to an automaton; what several of them have in
/// common becomes a rule once. All throw Error, with the schema's path, for what is not supported.
class ScalarSchemas {
 public:
  explicit ScalarSchemas(Pushdown& automaton) : out_(automaton) {}

  void add_string(const Schema& schema, const std::string& path, std::uint32_t from,
                  std::uint32_t to);
  void add_number(const Schema& schema, bool is_integer, const std::string& path,
                  std::uint32_t from, std::uint32_t to);
  /// A rule.
  std::uint32_t any_string();

 private:
  std::uint32_t character();

  Pushdown& out_;
  std::map<std::string, std::uint32_t> numbers_;  // rules
  std::optional<std::uint32_t> character_, any_string_;
};

}  // namespace gander
