#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "backend/gpu/emulated/sanitizers.h"
#include "tests/support/grammars.h"

// Random schemas: whatever the masks let through validates.
namespace gander {
namespace {

using Json = nlohmann::ordered_json;

// Random schemas of all that is supported and that valijson knows.
class Schemas {
 public:
  explicit Schemas(unsigned seed) : random_(seed) {}

  std::mt19937& random() { return random_; }

  Json document() {
    Json schema = any(0);
    if (below(3) == 0) {
      Json node = {{"type", "object"}};
      node["properties"]["value"] = any(2);
      node["properties"]["next"]["anyOf"] = {{{"$ref", "#/definitions/node"}}, {{"type", "null"}}};
      node["properties"]["children"] = {{"type", "array"},
                                        {"items", {{"$ref", "#/definitions/node"}}}};
      node["required"] = {"next"};
      node["additionalProperties"] = false;
      schema = {{"type", "object"},
                {"properties", {{"list", {{"$ref", "#/definitions/node"}}}, {"x", schema}}}};
      schema["definitions"]["node"] = node;
    }
    return schema;
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % bound; }

  Json any(int depth) {
    switch (below(depth < 3 ? 14 : 9)) {
      case 0:
        return string();
      case 1:
        return integer();
      case 2:
        return number();
      case 3:
        return {{"type", "boolean"}};
      case 4:
        return {{"type", {"null", "string", "integer"}}};
      case 5:
        return {{"enum", {1, "two", nullptr, 3.5, {{"a", Json::array({1, "é\n\""})}}}}};
      case 6:
        return {{"const", "a\"b"}};
      case 7:
        return {{"type", "string"}, {"description", "plain"}};
      case 8:
        return below(4) == 0 ? Json::object() : integer();
      case 9:
        return {{"anyOf", {any(depth + 1), any(depth + 1), any(depth + 1)}}};
      case 10:
        return {{"oneOf", {string(), object(depth + 1), integer(), {{"type", "boolean"}}}}};
      case 11:
        return {{"allOf", {object(depth + 1, "a"), object(depth + 1, "z")}}};
      case 12:
        return array(depth);
      default:
        return object(depth);
    }
  }

  Json string() {
    static const Json kPatterns = {
        "^a+b*$", "^(ab|cd){2,3}$", "x[0-9]?y", "^[A-Z][a-z]{1,4}$", "^\\d{3}-\\w+",
        "b$",     "^[^a-y]*$",      "a|^b$",    "^(?:\"|\\\\)+$"};
    switch (below(3)) {
      case 0: {
        Json schema = {{"type", "string"}, {"pattern", kPatterns[below(kPatterns.size())]}};
        if (below(2) == 0) schema["minLength"] = below(5);  // each pattern has texts of 4 to 6
        if (below(2) == 0) schema["maxLength"] = 6 + below(3);
        return schema;
      }
      case 1: {
        const std::size_t least = below(4);
        return {{"type", "string"}, {"minLength", least}, {"maxLength", least + below(5)}};
      }
      default:
        return {{"type", "string"}, {"minLength", below(3)}};
    }
  }

  Json integer() {
    Json schema = {{"type", "integer"}};
    const int low = static_cast<int>(below(3000)) - 1500;
    if (below(3) != 0) schema[below(2) == 0 ? "minimum" : "exclusiveMinimum"] = low;
    if (below(3) != 0)
      schema["maximum"] = low + 1 + static_cast<int>(below(below(2) == 0 ? 4 : 2000));
    if (below(4) == 0) {
      schema["multipleOf"] = 1 + below(30);
      if (schema.contains("maximum")) schema["maximum"] = low + 31;
    }
    return schema;
  }

  Json number() {
    Json schema = {{"type", "number"}};
    const double low = (static_cast<double>(below(40000)) - 20000) / (below(2) == 0 ? 1000 : 8);
    if (below(3) != 0) schema[below(2) == 0 ? "minimum" : "exclusiveMinimum"] = low;
    if (below(3) != 0) {
      schema[below(2) == 0 ? "maximum" : "exclusiveMaximum"] =
          std::round((low + 0.125 * static_cast<double>(1 + below(100))) * 1000) / 1000;
    }
    return schema;
  }

  Json array(int depth) {
    Json schema = {{"type", "array"}};
    if (below(5) == 0) {
      schema["items"] = {{"enum", {"a", 1, nullptr, "b", 2.5, 1.0}}};
      schema["uniqueItems"] = true;
      if (below(2) == 0) schema["minItems"] = below(5);
      if (below(2) == 0) schema["maxItems"] = 4 + below(3);
      return schema;
    }
    if (below(4) == 0) {
      schema["items"] = {any(depth + 1), any(depth + 1)};  // as valijson knows lists
      schema["additionalItems"] = below(2) == 0 ? Json(false) : any(depth + 1);
      if (below(2) == 0) schema["minItems"] = below(3);
      return schema;
    }
    if (below(4) != 0) schema["items"] = any(depth + 1);
    const std::size_t least = below(4);
    if (below(2) == 0) schema["minItems"] = least;
    if (below(2) == 0) schema["maxItems"] = least + below(4);
    return schema;
  }

  Json object(int depth, const std::string& prefix = "") {
    static const Json kNames = {"a", "ab", "name", "x y", "é", "q\"", "日本", ""};
    Json schema = {{"type", "object"}};
    for (std::size_t i = below(5); i > 0; --i) {
      const std::string name = prefix + kNames[below(kNames.size())].get<std::string>();
      schema["properties"][name] = any(depth + 1);
      if (below(2) == 0) schema["required"].push_back(name);
    }
    if (below(6) == 0) schema["required"].push_back("more");
    if (schema.contains("required")) {
      std::set<std::string> unique = schema["required"];
      schema["required"] = unique;
    }
    if (prefix.empty() && below(3) == 0) schema["additionalProperties"] = any(depth + 1);
    return schema;
  }

  std::mt19937 random_;
};

TEST(Grammar, WhatMasksAllowValidates) {
  // Under the address sanitizer a tenth of them: a fuzzer makes such walks too.
  constexpr unsigned kSchemas = GANDER_ADDRESS_SANITIZER ? 100 : 1000;
  unsigned texts = 0;
  std::size_t bytes = 0;
  for (unsigned seed = 0; seed < kSchemas; ++seed) {
    Schemas schemas(seed);
    const Json schema = schemas.document();
    SCOPED_TRACE(schema.dump());
    const auto grammar = grammar_of(schema);
    const nlohmann::json plain = nlohmann::json::parse(schema.dump());
    valijson::Schema parsed;
    valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(plain), parsed);
    for (int round = 0; round < 3; ++round) {
      const std::string text = walk(*grammar, schemas.random());
      SCOPED_TRACE(text);
      const nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded());
      valijson::ValidationResults results;
      valijson::Validator validator;
      const bool is_valid =
          validator.validate(parsed, valijson::adapters::NlohmannJsonAdapter(value), &results);
      valijson::ValidationResults::Error error;
      while (results.popError(error)) SCOPED_TRACE(error.description);
      ASSERT_TRUE(is_valid);
      // The same value, as others would write it, if not with more digits.
      const std::string other = Json::parse(text).dump();
      if (!std::regex_search(other, std::regex("[0-9.]{16,}"))) {
        ASSERT_TRUE(accepts(*grammar, other)) << other;
      }
      ++texts;
      bytes += text.size();
    }
  }
  EXPECT_EQ(texts, 3 * kSchemas);
  EXPECT_GT(bytes, 50 * kSchemas);
}

}  // namespace
}  // namespace gander
