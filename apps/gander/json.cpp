#include "apps/gander/json.h"

#include <fmt/format.h>

#include <cstdlib>

namespace gander {

std::string json_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json settings_json(const SamplerSettings& settings) {
  // The shortest decimal that is the float, not the double next to it: 0.8, not 0.800000011920929.
  const auto number = [](float value) {
    return Json(std::strtod(fmt::format("{}", value).c_str(), nullptr));
  };
  Json bias = Json::object();
  for (const auto& [token, value] : settings.logit_bias) {
    bias[std::to_string(token)] = number(value);
  }
  return {{"temperature", number(settings.temperature)},
          {"top_k", settings.top_k},
          {"top_p", number(settings.top_p)},
          {"min_p", number(settings.min_p)},
          {"typical", number(settings.typical_p)},
          {"repetition_penalty", number(settings.repetition_penalty)},
          {"presence_penalty", number(settings.presence_penalty)},
          {"frequency_penalty", number(settings.frequency_penalty)},
          {"penalty_decay", number(settings.penalty_decay)},
          {"logit_bias", bias},
          {"seed", settings.seed}};
}

}  // namespace gander
