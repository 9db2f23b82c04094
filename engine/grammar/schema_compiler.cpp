#include "engine/grammar/schema_compiler.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <initializer_list>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/grammar/other_key.h"
#include "engine/grammar/pattern.h"
#include "engine/grammar/scalar_schemas.h"
#include "engine/grammar/schema.h"

namespace gander {
namespace {

constexpr std::size_t kMostUnique = 10;  // constants; every set of them is a state
constexpr int kDeepestSchema = 64;
constexpr int kMostSchemas = 20'000;

// Beside what only describes.
bool has_only(const Schema& schema, std::initializer_list<std::string_view> keywords) {
  return std::ranges::all_of(schema.items(), [&](const auto& item) {
    return is_annotation(item.key()) || std::ranges::find(keywords, item.key()) != keywords.end();
  });
}

class SchemaCompiler {
 public:
  explicit SchemaCompiler(std::string_view text) : document_(text) {}

  Pushdown compile() {
    const std::uint32_t whole = out_.add_rule();
    const std::uint32_t first = out_.add_state();
    for (const unsigned char space : {' ', '\n'})
      out_.add_edge(out_.start(whole), space, space, first);
    out_.add_skip(out_.start(whole), first);
    const std::uint32_t last = out_.add_state();
    out_.add_call(first, rule_of("#", "#"), last);
    out_.end_rule(last);
    while (!waiting_.empty()) {
      const Waiting next = std::move(waiting_.front());
      waiting_.pop_front();
      const std::uint32_t end = out_.add_state();
      add_schema(*next.schema, next.path, out_.start(next.rule), end);
      out_.end_rule(end);
    }
    const std::int64_t endless = out_.left_recursive_rule();
    if (endless >= 0) {
      const auto found = std::ranges::find(references_, static_cast<std::uint32_t>(endless),
                                           [](const auto& one) { return one.second; });
      fail("schema {}: it refers to itself and nothing else",
           found == references_.end() ? "#" : found->first);
    }
    return std::move(out_);
  }

 private:
  struct Waiting {
    const Schema* schema;
    std::string path;
    std::uint32_t rule;
  };

  std::uint32_t rule_of(const std::string& reference, const std::string& path) {
    const Schema& schema = document_.resolve(reference, path);
    const auto found = references_.find(reference);
    if (found != references_.end()) return found->second;
    const std::uint32_t rule = out_.add_rule();
    references_[reference] = rule;
    waiting_.push_back({&schema, reference, rule});
    return rule;
  }

  void add_schema(const Schema& schema, const std::string& path, std::uint32_t from,
                  std::uint32_t to) {
    check_keywords(schema, path);
    if (schema == false) return;
    const auto is_silent = [](const auto& item) { return is_annotation(item.key()); };
    if (schema == true || std::ranges::all_of(schema.items(), is_silent)) {
      return out_.add_call(from, any_value(), to);
    }
    if (++schemas_ > kMostSchemas) fail("schema {}: there are too many parts", path);
    if (++depth_ > kDeepestSchema) fail("schema {}: it is nested too deeply", path);
    add_object_schema(schema, path, from, to);
    --depth_;
  }

  void add_object_schema(const Schema& schema, const std::string& path, std::uint32_t from,
                         std::uint32_t to) {
    if (schema.contains("$ref") && has_only(schema, {"$ref"}) && schema["$ref"].is_string()) {
      return out_.add_call(from, rule_of(schema["$ref"], path), to);
    }
    if (schema.contains("allOf") && has_only(schema, {"allOf"}) && schema["allOf"].size() == 1) {
      return add_schema(schema["allOf"][0], below(below(path, "allOf"), "0"), from, to);
    }
    if (schema.contains("$ref") || schema.contains("allOf")) {
      return add_schema(document_.both(schema, true, path), path, from, to);
    }
    for (const char* choice : {"anyOf", "oneOf"}) {
      if (!schema.contains(choice)) continue;
      const Schema& alternatives = schema[choice];
      if (!alternatives.is_array() || alternatives.empty()) {
        fail("schema {}: '{}' is an array of schemas", path, choice);
      }
      if (choice == std::string_view("oneOf")) check_one_of(alternatives, path);
      Schema rest = schema;
      rest.erase(choice);
      for (std::size_t i = 0; i < alternatives.size(); ++i) {
        const std::string at = below(below(path, choice), std::to_string(i));
        if (has_only(schema, {choice})) {
          add_schema(alternatives[i], at, from, to);
        } else {
          add_schema(document_.both(rest, alternatives[i], at), at, from, to);
        }
      }
      return;
    }
    if (schema.contains("const") || schema.contains("enum")) {
      for (const Schema& value : constants_of(schema, path)) {
        out_.add_skip(out_.add_text(from, value.dump()), to);
      }
      return;
    }
    for (const std::string& type : types_of(schema, path)) {
      const std::uint32_t begin = out_.add_state();
      out_.add_skip(from, begin);
      if (type == "object") add_object(schema, path, begin, to);
      if (type == "array") add_array(schema, path, begin, to);
      if (type == "string") scalars_.add_string(schema, path, begin, to);
      if (type == "number" || type == "integer") {
        scalars_.add_number(schema, type == "integer", path, begin, to);
      }
      if (type == "null") out_.add_skip(out_.add_text(begin, "null"), to);
      if (type != "boolean") continue;
      for (const char* value : {"true", "false"}) out_.add_skip(out_.add_text(begin, value), to);
    }
  }

  void check_one_of(const Schema& alternatives, const std::string& path) {
    for (std::size_t i = 0; i < alternatives.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (document_.exclude_each_other(alternatives[j], alternatives[i], path)) continue;
        fail(
            "schema {}: 'oneOf' is supported where types or constants tell its schemas apart, and "
            "{} and {} are not; use 'anyOf'",
            path, j, i);
      }
    }
  }

  // What `const` or `enum` names and `type` allows.
  std::vector<Schema> constants_of(const Schema& schema, const std::string& path) const {
    if (!has_only(schema, {"const", "type"}) && !has_only(schema, {"enum", "type"})) {
      fail("schema {}: beside 'enum' and 'const' only 'type' is supported", path);
    }
    Schema values = Schema::array();
    if (schema.contains("const")) {
      values.push_back(schema["const"]);
    } else {
      values = schema["enum"];
    }
    if (!values.is_array()) fail("schema {}: 'enum' is an array", path);
    if (!schema.contains("type")) return values;
    const std::vector<std::string> types = types_of(schema, path);
    std::vector<Schema> suitable;
    std::ranges::copy_if(values, std::back_inserter(suitable), [&](const Schema& value) {
      return std::ranges::any_of(types, [&](const std::string& type) {
        return type == value.type_name() || (type == "integer" && value.is_number_integer());
      });
    });
    return suitable;
  }

  // A comma or colon, with a space or not.
  void add_separator(std::uint32_t from, char separator, std::uint32_t to) {
    const std::uint32_t after = out_.add_text(from, {&separator, 1});
    out_.add_edge(after, ' ', ' ', to);
    out_.add_skip(after, to);
  }

  void add_object(const Schema& schema, const std::string& path, std::uint32_t from,
                  std::uint32_t to) {
    static const Schema kTrue = true;
    static const Schema kNone = Schema::object();
    const auto part = [&](const char* keyword, const Schema& otherwise) -> const Schema& {
      const auto found = schema.find(keyword);
      return found == schema.end() ? otherwise : *found;
    };
    const Schema& properties = part("properties", kNone);
    if (!properties.is_object()) fail("schema {}: 'properties' is an object", path);
    const Schema& more = part("additionalProperties", kTrue);
    struct Property {
      std::string name;
      const Schema* schema;
      bool is_required = false;
    };
    std::vector<Property> all;
    std::map<std::string, std::size_t> by_name;
    for (const auto& [name, value] : properties.items()) {
      by_name[name] = all.size();
      all.push_back({name, &value});
    }
    if (schema.contains("required")) {
      if (!schema["required"].is_array()) fail("schema {}: 'required' is an array", path);
      for (const Schema& name : schema["required"]) {
        if (!name.is_string()) fail("schema {}: 'required' is an array of strings", path);
        const auto [found, is_new] = by_name.try_emplace(name, all.size());
        if (is_new) all.push_back({name, &more});
        all[found->second].is_required = true;
      }
    }

    const std::uint32_t first = out_.add_text(from, "{");  // nothing was written
    std::optional<std::uint32_t> some;  // something was, what follows is optional
    bool may_be_first = true;
    const auto add_entry = [&] {  // where a property begins
      const std::uint32_t entry = out_.add_state();
      if (may_be_first) out_.add_skip(first, entry);
      if (some) add_separator(*some, ',', entry);
      return entry;
    };
    for (const Property& property : all) {
      const std::uint32_t key = out_.add_text(add_entry(), Schema(property.name).dump());
      const std::uint32_t value = out_.add_state();
      add_separator(key, ':', value);
      const std::uint32_t after = out_.add_state();
      add_schema(*property.schema, below(below(path, "properties"), property.name), value, after);
      if (property.is_required) {
        may_be_first = false;
      } else if (some) {
        out_.add_skip(*some, after);
      }
      some = after;
    }
    if (more != false && (properties.empty() || schema.contains("additionalProperties"))) {
      const std::uint32_t entry = add_entry();
      const std::uint32_t key = out_.add_state();
      std::vector<std::string> names;
      names.reserve(all.size());
      for (const Property& property : all) names.push_back(property.name);
      if (names.empty()) {
        out_.add_call(entry, scalars_.any_string(), key);
      } else {
        add_other_key(out_, entry, names, key);
      }
      const std::uint32_t value = out_.add_state();
      add_separator(key, ':', value);
      const std::uint32_t after = out_.add_state();
      add_schema(more, below(path, "additionalProperties"), value, after);
      add_separator(after, ',', entry);
      if (some) out_.add_skip(*some, after);
      out_.add_byte(after, '}', to);
      // A comma after what was skipped to here leads to an entry all the same.
    } else if (some) {
      out_.add_byte(*some, '}', to);
    }
    if (may_be_first) out_.add_byte(first, '}', to);
  }

  void add_array(const Schema& schema, const std::string& path, std::uint32_t from,
                 std::uint32_t to) {
    // Until 2019 `items` was a list, and `additionalItems` what follows it.
    const bool is_old = schema.contains("items") && schema["items"].is_array();
    const char* list = is_old ? "items" : "prefixItems";
    const char* rest = is_old ? "additionalItems" : "items";
    const Schema none = Schema::array();
    const Schema& first_items = schema.contains(list) ? schema[list] : none;
    if (!first_items.is_array()) fail("schema {}: '{}' is an array", path, list);
    const std::uint32_t least = whole_number(schema, "minItems", 0, path);
    const std::uint32_t most = whole_number(schema, "maxItems", Lengths::kNoLimit, path);
    const auto listed = static_cast<std::uint32_t>(first_items.size());
    Schema item = schema.contains(rest) ? schema[rest] : Schema(true);
    // What may follow a list without being described does not.
    if (!schema.contains(rest) && listed > 0 && least <= listed) item = false;

    std::uint32_t at = out_.add_text(from, "[");
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != false) {
      if (schema["uniqueItems"] != true) fail("schema {}: 'uniqueItems' is a boolean", path);
      return add_unique_items(listed == 0 ? item : Schema(true), path, {least, most}, at, to);
    }
    std::uint32_t written = 0;
    const auto next_entry = [&] {
      if (written >= least) out_.add_byte(at, ']', to);
      const std::uint32_t entry = out_.add_state();
      if (written == 0) out_.add_skip(at, entry);
      if (written > 0) add_separator(at, ',', entry);
      at = out_.add_state();
      ++written;
      return entry;
    };
    for (std::uint32_t i = 0; i < listed && written < most; ++i) {
      const std::uint32_t entry = next_entry();
      add_schema(first_items[i], below(below(path, list), std::to_string(i)), entry, at);
    }
    if (item != false && written < most) {
      const std::string item_path = below(path, rest);
      if (most == Lengths::kNoLimit && least <= written + 1) {
        const std::uint32_t entry = next_entry();
        add_schema(item, item_path, entry, at);
        add_separator(at, ',', entry);
      } else {
        const std::uint32_t rule = out_.add_rule();
        const std::uint32_t end = out_.add_state();
        add_schema(item, item_path, out_.start(rule), end);
        out_.end_rule(end);
        std::uint32_t entry = 0;
        while (written < (most == Lengths::kNoLimit ? least : most)) {
          entry = next_entry();
          out_.add_call(entry, rule, at);
        }
        if (most == Lengths::kNoLimit) add_separator(at, ',', entry);
      }
    }
    if (written >= least) out_.add_byte(at, ']', to);
  }

  // Each of a few constants at most once, after the bracket: a state for each set of those that
  // were written.
  void add_unique_items(const Schema& items, const std::string& path, const Lengths& lengths,
                        std::uint32_t from, std::uint32_t to) {
    const Schema item = document_.both(items, true, path);
    std::vector<Schema> values;
    if (item.is_object() && (item.contains("const") || item.contains("enum"))) {
      for (const Schema& value : constants_of(item, path)) {
        if (std::ranges::find(values, value) == values.end()) values.push_back(value);
      }
    }
    if (values.empty() || values.size() > kMostUnique ||
        std::ranges::any_of(values, [](const Schema& value) { return value.is_structured(); })) {
      fail(
          "schema {}: 'uniqueItems' is supported for items that are one of at most {} constants, "
          "no objects or arrays",
          path, kMostUnique);
    }
    std::vector<std::uint32_t> rules;
    for (const Schema& value : values) {
      rules.push_back(out_.add_rule());
      out_.end_rule(out_.add_text(out_.start(rules.back()), value.dump()));
    }
    std::vector<std::uint32_t> states = {from};
    while (states.size() < std::size_t{1} << values.size()) states.push_back(out_.add_state());
    for (std::size_t set = 0; set < states.size(); ++set) {
      const auto written = static_cast<std::uint32_t>(std::popcount(set));
      if (written >= lengths.least && written <= lengths.most) out_.add_byte(states[set], ']', to);
      if (written >= lengths.most) continue;
      const std::uint32_t entry = out_.add_state();
      if (set == 0) out_.add_skip(from, entry);
      if (set != 0) add_separator(states[set], ',', entry);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t bit = std::size_t{1} << i;
        if ((set & bit) == 0) out_.add_call(entry, rules[i], states[set | bit]);
      }
    }
  }

  std::uint32_t any_value() {
    if (!any_value_) {
      static const Schema kAny = {
          {"type", {"object", "array", "string", "number", "boolean", "null"}}};
      any_value_ = out_.add_rule();
      waiting_.push_back({&kAny, "#", *any_value_});
    }
    return *any_value_;
  }

  SchemaDocument document_;
  Pushdown out_;
  std::map<std::string, std::uint32_t> references_;  // rules
  std::deque<Waiting> waiting_;
  ScalarSchemas scalars_{out_};
  std::optional<std::uint32_t> any_value_;
  int depth_ = 0, schemas_ = 0;
};

}  // namespace

Pushdown compile_schema(std::string_view schema) {
  try {
    return SchemaCompiler(schema).compile();
  } catch (const nlohmann::json::exception& error) {
    fail("the schema is not understood: {}", error.what());
  }
}

}  // namespace gander
