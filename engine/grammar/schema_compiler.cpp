#include "engine/grammar/schema_compiler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <initializer_list>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/grammar/json_characters.h"
#include "engine/grammar/number.h"
#include "engine/grammar/pattern.h"
#include "engine/grammar/schema.h"

namespace gander {
namespace {

constexpr std::uint32_t kNoLimit = Lengths::kNoLimit;
constexpr std::size_t kMostUnique = 10;  // constants; every set of them is a state
constexpr double kLargest = 1e15;        // numbers have up to kMostDigits digits
constexpr int kDeepestSchema = 64;
constexpr int kMostSchemas = 20'000;

// Every day of these is one.
constexpr const char* kDate =
    "\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"
    "02-(0[1-9]|1\\d|2[0-8]))";
constexpr const char* kTime =
    "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
constexpr const char* kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

std::optional<std::string> pattern_of_format(const Schema& format) {
  if (format == "date") return fmt::format("^{}$", kDate);
  if (format == "time") return fmt::format("^{}$", kTime);
  if (format == "date-time") return fmt::format("^({})T({})$", kDate, kTime);
  if (format == "uuid") return fmt::format("^{}$", kUuid);
  return std::nullopt;  // others only describe
}

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
      if (type == "string") add_string(schema, path, begin, to);
      if (type == "number" || type == "integer") add_number(schema, type, path, begin, to);
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

  void add_byte(std::uint32_t from, char byte, std::uint32_t to) {
    out_.add_edge(from, static_cast<unsigned char>(byte), static_cast<unsigned char>(byte), to);
  }

  std::uint32_t count(const Schema& schema, const char* keyword, std::uint32_t otherwise,
                      const std::string& path) const {
    const auto found = schema.find(keyword);
    if (found == schema.end()) return otherwise;
    if (!found->is_number() || found->get<double>() < 0 ||
        found->get<double>() != std::floor(found->get<double>())) {
      fail("schema {}: '{}' is a whole number", path, keyword);
    }
    return static_cast<std::uint32_t>(std::min(found->get<double>(), 1e9));
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
      add_other_key(entry, names, key);
      const std::uint32_t value = out_.add_state();
      add_separator(key, ':', value);
      const std::uint32_t after = out_.add_state();
      add_schema(more, below(path, "additionalProperties"), value, after);
      add_separator(after, ',', entry);
      if (some) out_.add_skip(*some, after);
      add_byte(after, '}', to);
      // A comma after what was skipped to here leads to an entry all the same.
    } else if (some) {
      add_byte(*some, '}', to);
    }
    if (may_be_first) add_byte(first, '}', to);
  }

  // A key without escapes that is none of these names: where one of them is being written, other
  // characters lead away from it.
  void add_other_key(std::uint32_t from, const std::vector<std::string>& names, std::uint32_t to) {
    if (names.empty()) return out_.add_call(from, any_string(), to);
    struct NamePart {
      std::uint32_t state;
      int missing = 0;  // bytes of the character that it stands in
      bool is_name = false;
      std::map<std::uint32_t, std::size_t> next = {};
    };
    std::vector<NamePart> nodes = {{out_.add_text(from, "\"")}};
    for (const std::string& name : names) {
      std::size_t at = 0;
      for (const char c : name) {
        const auto [found, is_new] =
            nodes[at].next.try_emplace(static_cast<unsigned char>(c), nodes.size());
        const std::size_t target = found->second;
        if (is_new) {
          const auto byte = static_cast<unsigned char>(c);
          const int missing = byte >= 0xF0   ? 3
                              : byte >= 0xE0 ? 2
                              : byte >= 0xC0 ? 1
                                             : std::max(nodes[at].missing - 1, 0);
          nodes.push_back({out_.add_state(), missing});
        }
        at = target;
      }
      nodes[at].is_name = true;
    }
    const std::uint32_t other = out_.add_state();
    add_byte(other, '"', to);
    add_plain_character(other, other);
    for (const NamePart& node : nodes) {
      bool is_followed_by_ascii = true;
      for (const auto& [byte, target] : node.next) {
        is_followed_by_ascii &= byte < 0x80;
        if (byte < 0x20 || byte == '"' || byte == '\\') continue;  // no key without escapes
        const auto same = static_cast<unsigned char>(byte);
        out_.add_edge(node.state, same, same, nodes[target].state);
      }
      if (node.missing > 0) continue;
      if (!node.is_name) add_byte(node.state, '"', to);
      for (unsigned byte = 0x20; byte < 0x80; ++byte) {
        if (byte == '"' || byte == '\\' || node.next.contains(byte)) continue;
        add_byte(node.state, static_cast<char>(byte), other);
      }
      // Beside a name that goes on with another character, no key does.
      if (is_followed_by_ascii) out_.add_edge(node.state, CodePoints{0x80, 0x10FFFF}, other);
    }
  }

  void add_plain_character(std::uint32_t from, std::uint32_t to) {
    for (const CodePoints& range : {CodePoints{0x20, '"' - 1}, CodePoints{'"' + 1, '\\' - 1},
                                    CodePoints{'\\' + 1, 0x10FFFF}}) {
      out_.add_edge(from, range, to);
    }
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
    const std::uint32_t least = count(schema, "minItems", 0, path);
    const std::uint32_t most = count(schema, "maxItems", kNoLimit, path);
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
      if (written >= least) add_byte(at, ']', to);
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
      if (most == kNoLimit && least <= written + 1) {
        const std::uint32_t entry = next_entry();
        add_schema(item, item_path, entry, at);
        add_separator(at, ',', entry);
      } else {
        const std::uint32_t rule = out_.add_rule();
        const std::uint32_t end = out_.add_state();
        add_schema(item, item_path, out_.start(rule), end);
        out_.end_rule(end);
        std::uint32_t entry = 0;
        while (written < (most == kNoLimit ? least : most)) {
          entry = next_entry();
          out_.add_call(entry, rule, at);
        }
        if (most == kNoLimit) add_separator(at, ',', entry);
      }
    }
    if (written >= least) add_byte(at, ']', to);
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
      if (written >= lengths.least && written <= lengths.most) add_byte(states[set], ']', to);
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

  void add_string(const Schema& schema, const std::string& path, std::uint32_t from,
                  std::uint32_t to) {
    const std::uint32_t least = count(schema, "minLength", 0, path);
    const std::uint32_t most = count(schema, "maxLength", kNoLimit, path);
    const bool is_bounded = least > 0 || most != kNoLimit;
    std::optional<std::string> pattern;
    if (schema.contains("pattern")) {
      if (!schema["pattern"].is_string()) fail("schema {}: 'pattern' is a string", path);
      pattern = schema["pattern"];
    } else if (schema.contains("format")) {
      pattern = pattern_of_format(schema["format"]);
    }
    if (!pattern && !is_bounded) return out_.add_call(from, any_string(), to);
    std::uint32_t at = out_.add_text(from, "\"");
    if (pattern) {
      try {
        at = add_pattern(out_, at, *pattern, {least, most});
      } catch (const Error& error) {
        fail("schema {}: {}", below(path, "pattern"), error.what());
      }
      return add_byte(at, '"', to);
    }
    for (std::uint32_t written = 0; written < (most == kNoLimit ? least : most); ++written) {
      if (written >= least) add_byte(at, '"', to);
      const std::uint32_t next = out_.add_state();
      out_.add_call(at, character(), next);
      at = next;
    }
    if (most == kNoLimit) out_.add_call(at, character(), at);
    if (least <= most) add_byte(at, '"', to);
  }

  std::optional<Bound> bound(const Schema& schema, const char* keyword, bool is_exclusive,
                             const std::string& path) const {
    const auto found = schema.find(keyword);
    if (found == schema.end()) return std::nullopt;
    if (!found->is_number()) fail("schema {}: '{}' is a number", path, keyword);
    const double value = found->get<double>();
    const bool is_low = std::string_view(keyword).find("inimum") != std::string_view::npos;
    if ((is_low && value <= -kLargest) || (!is_low && value >= kLargest)) return std::nullopt;
    // The fewest digits that say it; small ones without an exponent, where these suffice.
    std::string digits = found->is_number_float() ? fmt::format("{}", value) : found->dump();
    if (const std::string plain = fmt::format("{:.15f}", value);
        std::abs(value) < 1 && std::strtod(plain.c_str(), nullptr) == value) {
      digits = plain;
    }
    try {
      return parse_bound(digits, is_exclusive);
    } catch (const Error& error) {
      fail("schema {}: {}", below(path, keyword), error.what());
    }
  }

  // Of `multipleOf`. What a fraction divides, readers do not agree on.
  std::uint32_t divisor(const Schema& schema, const std::string& path) const {
    const auto found = schema.find("multipleOf");
    if (found == schema.end()) return 1;
    const double value = found->is_number() ? found->get<double>() : 0;
    if (value < 1 || value > kLargestDivisor || value != std::floor(value)) {
      fail("schema {}: 'multipleOf' is supported for whole numbers from 1 to {}", path,
           kLargestDivisor);
    }
    return static_cast<std::uint32_t>(value);
  }

  void add_number(const Schema& schema, const std::string& type, const std::string& path,
                  std::uint32_t from, std::uint32_t to) {
    const std::uint32_t multiple_of = divisor(schema, path);
    const bool integer = type == "integer" || schema.contains("multipleOf");
    // Of two bounds on one side the nearer one counts.
    const auto nearer = [&](const char* plain, const char* exclusive, bool is_low) {
      const std::optional<Bound> one = bound(schema, plain, false, path);
      const std::optional<Bound> other = bound(schema, exclusive, true, path);
      if (!one || !other) return one ? one : other;
      const double difference = schema[plain].get<double>() - schema[exclusive].get<double>();
      return (is_low ? difference > 0 : difference < 0) ? one : other;
    };
    const std::optional<Bound> low = nearer("minimum", "exclusiveMinimum", true);
    const std::optional<Bound> high = nearer("maximum", "exclusiveMaximum", false);
    const auto text = [](const std::optional<Bound>& b) {
      return b ? fmt::format("{}{}.{}{}", b->is_negative ? "-" : "", b->whole, b->fraction,
                             b->is_exclusive ? "!" : "")
               : std::string();
    };
    const auto [found, is_new] = numbers_.try_emplace(
        fmt::format("{} {} {} {}", integer, multiple_of, text(low), text(high)), 0);
    if (is_new) {
      found->second = out_.add_rule();
      const std::uint32_t begin = out_.start(found->second);
      std::uint32_t end = out_.add_state();
      if (!low && !high && multiple_of == 1) {
        // No exponent but after one digit, so that no number is larger than a double.
        end = add_pattern(out_, begin,
                          integer ? "^(0|-?[1-9]\\d{0,14})$"
                                  : "^-?((0|[1-9]\\d{0,14})(\\.\\d{1,15})?|"
                                    "[1-9](\\.\\d{1,15})?[eE][+-]?\\d{1,2})$");
      } else {
        add_numbers(out_, begin, low, high, {integer, multiple_of}, end);
      }
      out_.end_rule(end);
    }
    out_.add_call(from, found->second, to);
  }

  std::uint32_t character() {
    if (!character_) {
      character_ = out_.add_rule();
      const std::uint32_t end = out_.add_state();
      add_character(out_, out_.start(*character_), end);
      out_.end_rule(end);
    }
    return *character_;
  }

  std::uint32_t any_string() {
    if (!any_string_) {
      any_string_ = out_.add_rule();
      const std::uint32_t inside = out_.add_text(out_.start(*any_string_), "\"");
      add_character(out_, inside, inside);
      out_.end_rule(out_.add_text(inside, "\""));
    }
    return *any_string_;
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
  std::map<std::string, std::uint32_t> numbers_;
  std::optional<std::uint32_t> character_, any_string_, any_value_;
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
