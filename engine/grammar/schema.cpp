#include "engine/grammar/schema.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "base/error.h"

namespace gander {
namespace {

constexpr std::size_t kMostSchemaBytes = 128 << 10;
constexpr int kMostSteps = 20'000;  // of putting schemas together
constexpr int kDeepestMerge = 40;
constexpr int kDeepestText = 200;

constexpr std::array kAllTypes = {"object",  "array",   "string", "number",
                                  "integer", "boolean", "null"};

template <std::size_t N>
bool is_one_of(const std::string& word, const std::array<const char*, N>& words) {
  return std::ranges::find(words, std::string_view(word)) != words.end();
}

bool is_type_of(const std::string& type, const Schema& value) {
  if (type == "integer") {
    return value.is_number_integer();
  }
  return type == value.type_name();
}

// The values that `const` or `enum` name, or nothing.
std::vector<Schema> constants(const Schema& schema) {
  if (!schema.is_object()) return {};
  if (schema.contains("const")) return {schema["const"]};
  if (!schema.contains("enum") || !schema["enum"].is_array()) return {};
  return {schema["enum"].begin(), schema["enum"].end()};
}

bool have_none_in_common(const std::vector<Schema>& a, const std::vector<Schema>& b) {
  return std::ranges::none_of(
      a, [&](const Schema& value) { return std::ranges::find(b, value) != b.end(); });
}

bool is_required(const Schema& schema, const std::string& property) {
  const auto required = schema.find("required");
  return required != schema.end() && required->is_array() &&
         std::ranges::find(*required, Schema(property)) != required->end();
}

Schema part(const Schema& schema, const char* keyword, const Schema& otherwise) {
  const auto found = schema.find(keyword);
  return found == schema.end() ? otherwise : *found;
}

}  // namespace

std::string below(const std::string& path, const std::string& key) {
  std::string escaped;
  for (const char c : key.substr(0, 60)) {
    if (c == '~') {
      escaped += "~0";
    } else if (c == '/') {
      escaped += "~1";
    } else {
      escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return path + "/" + escaped;
}

bool is_annotation(const std::string& keyword) {
  static constexpr std::array kAnnotations = {
      "title",      "description",      "default",         "examples",
      "example",    "$schema",          "$comment",        "$id",
      "$defs",      "definitions",      "readOnly",        "writeOnly",
      "deprecated", "contentMediaType", "contentEncoding", "id",
      "$anchor",    "$vocabulary",      "strict",          "discriminator"};
  return is_one_of(keyword, kAnnotations);
}

void check_keywords(const Schema& schema, const std::string& path) {
  if (schema.is_boolean()) return;
  if (!schema.is_object()) fail("schema {}: a schema is an object or a boolean", path);
  static constexpr std::array kRefused = {"not",
                                          "if",
                                          "dependentSchemas",
                                          "dependentRequired",
                                          "dependencies",
                                          "contains",
                                          "unevaluatedProperties",
                                          "patternProperties",
                                          "propertyNames",
                                          "minProperties",
                                          "maxProperties",
                                          "unevaluatedItems",
                                          "$dynamicRef",
                                          "$recursiveRef"};
  for (const auto& item : schema.items()) {
    const std::string& key = item.key();
    if (is_one_of(key, kRefused)) fail("schema {}: '{}' is not supported", path, key);
  }
}

std::vector<std::string> types_of(const Schema& schema, const std::string& path) {
  std::vector<std::string> types;
  const auto add = [&](const Schema& type) {
    if (!type.is_string() || !is_one_of(type.get_ref<const std::string&>(), kAllTypes)) {
      fail("schema {}: there is no type {}", below(path, "type"), type.dump().substr(0, 60));
    }
    types.push_back(type);
  };
  const Schema type = part(schema, "type", nullptr);
  if (type.is_array()) {
    std::ranges::for_each(type, add);
  } else if (!type.is_null()) {
    add(type);
  } else {
    const auto has_any = [&](std::initializer_list<const char*> keywords) {
      return std::ranges::any_of(keywords, [&](const char* key) { return schema.contains(key); });
    };
    if (has_any({"properties", "required", "additionalProperties"})) types.emplace_back("object");
    if (has_any({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}))
      types.emplace_back("array");
    if (has_any({"minLength", "maxLength", "pattern"})) types.emplace_back("string");
    if (has_any({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})) {
      types.emplace_back("number");
    }
    if (types.empty()) types = {"object", "array", "string", "number", "boolean", "null"};
  }
  return types;
}

SchemaDocument::SchemaDocument(std::string_view text) {
  if (text.size() > kMostSchemaBytes) {
    fail("the schema has {} bytes; the limit is {}", text.size(), kMostSchemaBytes);
  }
  try {
    const auto check_depth = [](int depth, nlohmann::detail::parse_event_t, const Schema&) {
      if (depth > kDeepestText) fail("the schema is nested too deeply");
      return true;
    };
    root_ = Schema::parse(text, check_depth);
  } catch (const nlohmann::json::exception& error) {
    fail("the schema is no JSON: {}", error.what());
  }
  check_keywords(root_, "#");
}

const Schema& SchemaDocument::resolve(const std::string& reference, const std::string& path) const {
  const Schema* found = &root_;
  if (!reference.starts_with('#')) {
    fail("schema {}: '$ref' to '{}': only what is in the same schema can be referred to", path,
         reference);
  }
  std::string_view rest = std::string_view(reference).substr(1);
  while (found != nullptr && rest.starts_with('/')) {
    rest.remove_prefix(1);
    const std::string_view encoded = rest.substr(0, rest.find('/'));
    rest.remove_prefix(encoded.size());
    std::string key;
    for (std::size_t i = 0; i < encoded.size(); ++i) {
      if (encoded[i] == '~' && i + 1 < encoded.size()) {
        key += encoded[++i] == '0' ? '~' : '/';
      } else if (encoded[i] == '%' && i + 2 < encoded.size()) {
        key += static_cast<char>(
            std::strtol(std::string(encoded.substr(i + 1, 2)).c_str(), nullptr, 16));
        i += 2;
      } else {
        key += encoded[i];
      }
    }
    if (found->is_object() && found->contains(key)) {
      found = &found->at(key);
    } else if (found->is_array() && !key.empty() && key.size() < 6 &&
               key.find_first_not_of("0123456789") == std::string::npos &&
               std::stoul(key) < found->size()) {
      found = &found->at(std::stoul(key));
    } else {
      found = nullptr;
    }
  }
  if (found == nullptr || !rest.empty()) {
    fail("schema {}: '$ref' to '{}': there is no such place in the schema", path, reference);
  }
  return *found;
}

void SchemaDocument::count_step(const std::string& path) {
  if (++steps_ > kMostSteps) fail("schema {}: 'allOf' and references are too many", path);
}

// Without `$ref` and `allOf` at its top.
Schema SchemaDocument::flattened(Schema schema, const std::string& path) {
  count_step(path);
  if (!schema.is_object()) return schema;
  if (schema.contains("$ref")) {
    const Schema reference = schema["$ref"];
    if (!reference.is_string()) fail("schema {}: '$ref' is a string", path);
    schema.erase("$ref");
    return both(resolve(reference, path), std::move(schema), path);
  }
  if (schema.contains("allOf")) {
    const Schema parts = schema["allOf"];
    if (!parts.is_array()) fail("schema {}: 'allOf' is an array", path);
    schema.erase("allOf");
    for (const Schema& one : parts) schema = both(std::move(schema), one, path);
  }
  return schema;
}

Schema SchemaDocument::both(Schema a, Schema b, const std::string& path) {
  if (depth_ == kDeepestMerge)
    fail("schema {}: it refers to itself, or is nested too deeply", path);
  ++depth_;
  a = flattened(std::move(a), path);
  b = flattened(std::move(b), path);
  --depth_;
  check_keywords(a, path);
  check_keywords(b, path);
  if (a.is_boolean()) return a == true ? b : a;
  if (b.is_boolean()) return b == true ? a : b;

  // A property of one alone is an additional one to the other.
  const Schema a_more = part(a, "additionalProperties", true);
  const Schema b_more = part(b, "additionalProperties", true);
  Schema properties = part(a, "properties", Schema::object());
  const Schema b_properties = part(b, "properties", Schema::object());
  if (!properties.is_object() || !b_properties.is_object()) {
    fail("schema {}: 'properties' is an object", path);
  }
  ++depth_;
  // What one of them says nothing about stays as it is, with its references.
  const auto merged = [&](const Schema& one, const Schema& other, const std::string& name) {
    return one == true ? other : other == true ? one : both(one, other, below(path, name));
  };
  for (auto& [name, value] : properties.items()) {
    value = merged(value, b_properties.contains(name) ? b_properties[name] : b_more, name);
  }
  for (const auto& [name, value] : b_properties.items()) {
    if (!properties.contains(name)) properties[name] = merged(a_more, value, name);
  }
  if (a.contains("properties") || b.contains("properties")) a["properties"] = properties;
  if (a.contains("additionalProperties") || b.contains("additionalProperties")) {
    a["additionalProperties"] = merged(a_more, b_more, "additionalProperties");
  }
  // The items of one are the first of the other too.
  for (const auto& [listing, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (!listing->contains("prefixItems") || !other->contains("items")) continue;
    if (other->contains("prefixItems")) continue;
    const Schema items = (*other)["items"];
    const Schema rest = part(*listing, "items", true);
    if (items.is_array() || rest.is_array()) {
      fail("schema {}: 'items' as a list is not supported beside 'prefixItems'", path);
    }
    for (Schema& item : (*listing)["prefixItems"]) item = merged(item, items, "prefixItems");
    (*other)["items"] = (*listing)["items"] = merged(rest, items, "items");
  }
  --depth_;

  for (const auto& [key, value] : b.items()) {
    if (key == "properties" || key == "additionalProperties") continue;
    if (!a.contains(key)) {
      a[key] = value;
      continue;
    }
    Schema& mine = a[key];
    if (mine == value || is_annotation(key)) continue;
    if (key == "required" && mine.is_array() && value.is_array()) {
      for (const Schema& name : value) {
        if (std::ranges::find(mine, name) == mine.end()) mine.push_back(name);
      }
    } else if (key == "type") {
      const std::vector<std::string> theirs = types_of(b, path);
      const auto has = [](const std::vector<std::string>& types, const char* type) {
        return std::ranges::find(types, type) != types.end();
      };
      Schema common = Schema::array();
      for (const std::string& type : types_of(a, path)) {
        if (has(theirs, type.c_str()) || (type == "integer" && has(theirs, "number"))) {
          common.push_back(type);
        } else if (type == "number" && has(theirs, "integer")) {
          common.push_back("integer");
        }
      }
      if (common.empty()) return false;
      mine = common;
    } else if (mine.is_number() && value.is_number() && key.starts_with("min")) {
      if (mine < value) mine = value;
    } else if (mine.is_number() && value.is_number() && key.starts_with("max")) {
      if (value < mine) mine = value;
    } else {
      fail("schema {}: '{}' is given twice, which cannot be put together", path, key);
    }
  }
  return a;
}

bool SchemaDocument::exclude_each_other(const Schema& one, const Schema& other,
                                        const std::string& path) {
  const Schema a = flattened(one, path);
  const Schema b = flattened(other, path);
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object()) return false;
  const std::vector<Schema> a_values = constants(a);
  const std::vector<Schema> b_values = constants(b);
  if (!a_values.empty() && !b_values.empty()) return have_none_in_common(a_values, b_values);
  // A schema without a type may accept values of any.
  const auto types = [&](const Schema& schema) {
    return schema.contains("type") ? types_of(schema, path)
                                   : std::vector<std::string>(kAllTypes.begin(), kAllTypes.end());
  };
  const std::vector<std::string> a_types = types(a);
  const std::vector<std::string> b_types = types(b);
  const auto can_be = [](const std::vector<std::string>& list, const Schema& value) {
    return std::ranges::any_of(list, [&](const std::string& type) {
      return is_type_of(type, value) ||
             (value.is_number() && (type == "number" || type == "integer"));
    });
  };
  if (!a_values.empty()) {
    return std::ranges::none_of(a_values, [&](const Schema& v) { return can_be(b_types, v); });
  }
  if (!b_values.empty()) {
    return std::ranges::none_of(b_values, [&](const Schema& v) { return can_be(a_types, v); });
  }
  bool both_objects = false;
  for (const std::string& type : a_types) {
    for (const std::string& theirs : b_types) {
      const bool numbers =
          (type == "number" || type == "integer") && (theirs == "number" || theirs == "integer");
      if (numbers || (type == theirs && type != "object")) return false;
      both_objects |= type == theirs;
    }
  }
  if (!both_objects) return true;
  const Schema properties = part(a, "properties", Schema::object());
  const Schema b_properties = part(b, "properties", Schema::object());
  for (const auto& [name, value] : properties.items()) {
    if (!is_required(a, name) || !is_required(b, name) || !b_properties.contains(name)) continue;
    const std::vector<Schema> mine = constants(value);
    const std::vector<Schema> theirs = constants(b_properties[name]);
    if (!mine.empty() && !theirs.empty() && have_none_in_common(mine, theirs)) return true;
  }
  return false;
}

}  // namespace gander
