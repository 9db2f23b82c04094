#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace gander {

/// A JSON schema: an object with its keys in the order they are written in, or true or false.
using Schema = nlohmann::ordered_json;

/// A document of schemas, and what they mean together. Errors name the place as a JSON pointer.
class SchemaDocument {
 public:
  /// Throws Error when the text is no JSON or not an object or boolean.
  explicit SchemaDocument(std::string_view text);

  const Schema& root() const { return root_; }

  /// What `reference` ("#/$defs/name") points to. Throws Error.
  const Schema& resolve(const std::string& reference, const std::string& path) const;

  /// A schema that accepts what both accept. Throws Error where that cannot be said in one.
  Schema both(Schema a, Schema b, const std::string& path);

  /// Whether no value can be accepted by both, as far as types, constants and required properties
  /// with constants tell.
  bool exclude_each_other(const Schema& a, const Schema& b, const std::string& path);

 private:
  Schema flattened(Schema schema, const std::string& path);
  void count_step(const std::string& path);

  Schema root_;
  int depth_ = 0;
  int steps_ = 0;
};

/// Throws Error when `schema` is none, or has a keyword that says something that is not understood.
void check_keywords(const Schema& schema, const std::string& path);

/// Whether the keyword only describes.
bool is_annotation(const std::string& keyword);

/// The types of values that the schema is about: by `type`, else by the kinds of its keywords, else
/// all.
std::vector<std::string> types_of(const Schema& schema, const std::string& path);

/// The path of a keyword's or property's value.
std::string below(const std::string& path, const std::string& key);

}  // namespace gander
