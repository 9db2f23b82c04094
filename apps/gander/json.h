#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/sampler.h"

namespace gander {

/// JSON with its keys in the order they were added.
using Json = nlohmann::ordered_json;

/// One line; bytes that are not UTF-8 (names in hostile files) become U+FFFD.
std::string json_text(const Json& json);

Json settings_json(const SamplerSettings& settings);

}  // namespace gander
