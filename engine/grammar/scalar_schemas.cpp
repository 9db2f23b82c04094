#include "engine/grammar/scalar_schemas.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "engine/grammar/json_characters.h"
#include "engine/grammar/number.h"
#include "engine/grammar/pattern.h"

namespace gander {
namespace {

constexpr std::uint32_t kNoLimit = Lengths::kNoLimit;
constexpr double kLargest = 1e15;  // numbers have up to kMostDigits digits

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

std::optional<Bound> bound(const Schema& schema, const char* keyword, bool is_exclusive,
                           const std::string& path) {
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
std::uint32_t divisor(const Schema& schema, const std::string& path) {
  const auto found = schema.find("multipleOf");
  if (found == schema.end()) return 1;
  const double value = found->is_number() ? found->get<double>() : 0;
  if (value < 1 || value > kLargestDivisor || value != std::floor(value)) {
    fail("schema {}: 'multipleOf' is supported for whole numbers from 1 to {}", path,
         kLargestDivisor);
  }
  return static_cast<std::uint32_t>(value);
}

}  // namespace

std::uint32_t whole_number(const Schema& schema, const char* keyword, std::uint32_t otherwise,
                           const std::string& path) {
  const auto found = schema.find(keyword);
  if (found == schema.end()) return otherwise;
  if (!found->is_number() || found->get<double>() < 0 ||
      found->get<double>() != std::floor(found->get<double>())) {
    fail("schema {}: '{}' is a whole number", path, keyword);
  }
  return static_cast<std::uint32_t>(std::min(found->get<double>(), 1e9));
}

void ScalarSchemas::add_string(const Schema& schema, const std::string& path, std::uint32_t from,
                               std::uint32_t to) {
  const std::uint32_t least = whole_number(schema, "minLength", 0, path);
  const std::uint32_t most = whole_number(schema, "maxLength", kNoLimit, path);
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
    return out_.add_byte(at, '"', to);
  }
  for (std::uint32_t written = 0; written < (most == kNoLimit ? least : most); ++written) {
    if (written >= least) out_.add_byte(at, '"', to);
    const std::uint32_t next = out_.add_state();
    out_.add_call(at, character(), next);
    at = next;
  }
  if (most == kNoLimit) out_.add_call(at, character(), at);
  if (least <= most) out_.add_byte(at, '"', to);
}

void ScalarSchemas::add_number(const Schema& schema, bool is_integer, const std::string& path,
                               std::uint32_t from, std::uint32_t to) {
  const std::uint32_t multiple_of = divisor(schema, path);
  const bool integer = is_integer || schema.contains("multipleOf");
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

std::uint32_t ScalarSchemas::character() {
  if (!character_) {
    character_ = out_.add_rule();
    const std::uint32_t end = out_.add_state();
    add_character(out_, out_.start(*character_), end);
    out_.end_rule(end);
  }
  return *character_;
}

std::uint32_t ScalarSchemas::any_string() {
  if (!any_string_) {
    any_string_ = out_.add_rule();
    const std::uint32_t inside = out_.add_text(out_.start(*any_string_), "\"");
    add_character(out_, inside, inside);
    out_.end_rule(out_.add_text(inside, "\""));
  }
  return *any_string_;
}

}  // namespace gander
