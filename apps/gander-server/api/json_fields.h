#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "apps/gander-server/api/api_error.h"

namespace gander::server {

/// In the order of the text, as schemas and tools are shown to a model.
using Json = nlohmann::ordered_json;

/// One line; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const Json& json);

/// Parses a body. Throws ApiError when it is not JSON, not an object, or nested deeper than 64.
Json parse_body(std::string_view body);

/// An object of a request whose fields are read with checks. Absent fields and null are the same:
/// nothing. Errors name the field by its path: "tools[0].function.name".
class JsonFields {
 public:
  JsonFields(const Json& object, std::string path);

  /// Null when absent.
  const Json* find(const char* name) const;
  std::string path_of(std::string_view name) const;

  std::optional<double> number(const char* name, double least, double most) const;
  std::optional<std::int64_t> integer(const char* name, std::int64_t least,
                                      std::int64_t most) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> string(const char* name) const;
  std::optional<std::string> one_of(const char* name,
                                    std::initializer_list<std::string_view> values) const;
  std::string required_string(const char* name) const;
  /// Throws when the field is there.
  void refuse(const char* name, std::string_view why) const;

 private:
  const Json& object_;
  std::string path_;
};

}  // namespace gander::server
