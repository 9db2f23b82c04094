#include "apps/gander-server/api/json_fields.h"

#include <algorithm>
#include <utility>

namespace gander::server {
namespace {

constexpr int kDeepest = 64;

}  // namespace

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json parse_body(std::string_view body) {
  Json json;
  try {
    json = Json::parse(body, [](int depth, Json::parse_event_t, Json&) {
      if (depth > kDeepest) throw ApiError(400, "the body is nested too deeply");
      return true;
    });
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string_view what = error.what();
    what.remove_prefix(std::min(what.find("] ") + 2, what.size()));
    throw ApiError(400, fmt::format("the body is not JSON: {}", what));
  }
  if (!json.is_object()) throw ApiError(400, "the body is not a JSON object");
  return json;
}

JsonFields::JsonFields(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object()) refuse_field(path_, "'{}' must be an object", path_);
}

const Json* JsonFields::find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string JsonFields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

std::optional<double> JsonFields::number(const char* name, double least, double most) const {
  const Json* const value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->get<double>() >= least && value->get<double>() <= most)) {
    refuse_field(path_of(name), "'{}' must be a number from {} to {}", path_of(name), least, most);
  }
  return value->get<double>();
}

std::optional<std::int64_t> JsonFields::integer(const char* name, std::int64_t least,
                                                std::int64_t most) const {
  const Json* const value = find(name);
  if (value == nullptr) return std::nullopt;
  const bool fits =
      value->is_number_integer() &&
      (value->is_number_unsigned()
           ? std::cmp_less_equal(value->get<std::uint64_t>(), most) &&
                 std::cmp_greater_equal(value->get<std::uint64_t>(), least)
           : value->get<std::int64_t>() >= least && value->get<std::int64_t>() <= most);
  if (!fits) {
    refuse_field(path_of(name), "'{}' must be an integer from {} to {}", path_of(name), least,
                 most);
  }
  return value->get<std::int64_t>();
}

std::optional<bool> JsonFields::boolean(const char* name) const {
  const Json* const value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    refuse_field(path_of(name), "'{}' must be true or false", path_of(name));
  }
  return value->get<bool>();
}

std::optional<std::string> JsonFields::string(const char* name) const {
  const Json* const value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_field(path_of(name), "'{}' must be a string", path_of(name));
  return value->get<std::string>();
}

std::optional<std::string> JsonFields::one_of(
    const char* name, std::initializer_list<std::string_view> values) const {
  std::optional<std::string> value = string(name);
  if (value && std::ranges::find(values, *value) == values.end()) {
    refuse_field(path_of(name), "'{}' must be one of {}", path_of(name), fmt::join(values, ", "));
  }
  return value;
}

std::string JsonFields::required_string(const char* name) const {
  std::optional<std::string> value = string(name);
  if (!value) refuse_field(path_of(name), "'{}' is missing", path_of(name));
  return *std::move(value);
}

void JsonFields::refuse(const char* name, std::string_view why) const {
  if (find(name) != nullptr) {
    refuse_field(path_of(name), "'{}' is not supported: {}", path_of(name), why);
  }
}

}  // namespace gander::server
