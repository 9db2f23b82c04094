#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "backend/gpu/layer_buffers.h"
#include "backend/gpu/tuning.h"
#include "base/atomic_file.h"
#include "base/error.h"

// tuning.json: {"version": 1, "shapes": {"DEVICE | C 2560 ...": {"time_mix_in": [256, 32], ...}}}
namespace gander::gpu {

namespace {

using Json = nlohmann::ordered_json;
constexpr int kTuningVersion = 1;

// What the best shapes depend on.
std::string key_of(const DeviceInfo& info, const Weights& weights) {
  const Config& c = weights.config;
  const gander::LayerWeights& layer = weights.layers.front();
  return fmt::format("{} | C {} F {} V {} N {} ranks {} {} {} {} | {} {} {} {} {}", info.name,
                     c.width, c.ffn_width, c.vocab_size, c.head_size, c.rank_w, c.rank_a, c.rank_v,
                     c.rank_g, name(layer.att.receptance.type), name(layer.att.output.type),
                     name(layer.ffn.key.type), name(layer.ffn.value.type), name(weights.head.type));
}

// Two numbers of a field, each in its range.
struct Numbers {
  std::uint32_t first, second;
};

Numbers numbers(const std::string& path, const Json& shapes, const char* field,
                std::uint32_t second_multiple, std::uint32_t second_most) {
  const auto found = shapes.find(field);
  const auto whole = [](const Json& number) { return number.is_number_unsigned(); };
  if (found == shapes.end() || !found->is_array() || found->size() != 2 || !whole((*found)[0]) ||
      !whole((*found)[1])) {
    fail("{}: \"{}\" is not two numbers; delete the file and run gander tune again", path, field);
  }
  const auto first = (*found)[0].get<std::uint64_t>();
  const auto second = (*found)[1].get<std::uint64_t>();
  if (first == 0 || first > 1024 || first % 32 != 0 || second == 0 || second > second_most ||
      second % second_multiple != 0) {
    fail("{}: \"{}\" cannot be [{}, {}]; delete the file and run gander tune again", path, field,
         first, second);
  }
  return {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(second)};
}

RowShape row_shape(const std::string& path, const Json& shapes, const char* field) {
  const Numbers pair = numbers(path, shapes, field, 4, 1 << 16);
  return {pair.first, pair.second};
}

// An empty object when there is no file.
Json read_file(const std::string& path) {
  std::error_code ignored;
  if (path.empty() || !std::filesystem::exists(path, ignored)) return Json::object();
  std::ifstream file(path);
  Json json = Json::parse(file, nullptr, false);
  if (!file || json.is_discarded() || !json.is_object() ||
      json.value("version", 0) != kTuningVersion || !json.contains("shapes") ||
      !json["shapes"].is_object()) {
    fail("{} is no tuning file of this version; delete it and run gander tune again", path);
  }
  return json;
}

}  // namespace

std::string tuning_path() {
  const auto variable = [](const char* name) -> std::string_view {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto path = variable("GANDER_TUNING"); !path.empty()) return std::string(path);
  if (const auto folder = variable("XDG_CONFIG_HOME"); !folder.empty()) {
    return fmt::format("{}/gander/tuning.json", folder);
  }
  if (const auto home = variable("HOME"); !home.empty()) {
    return fmt::format("{}/.config/gander/tuning.json", home);
  }
  return "";
}

std::optional<LaunchShapes> stored_shapes(const std::string& path, const DeviceInfo& info,
                                          const Weights& weights) {
  const Json json = read_file(path);
  if (json.empty()) return std::nullopt;
  const auto found = json["shapes"].find(key_of(info, weights));
  if (found == json["shapes"].end()) return std::nullopt;
  LaunchShapes shapes;
  shapes.time_mix_in = row_shape(path, *found, "time_mix_in");
  shapes.time_mix_out = row_shape(path, *found, "time_mix_out");
  shapes.ffn_key = row_shape(path, *found, "ffn_key");
  shapes.head = row_shape(path, *found, "head");
  shapes.wkv_threads = numbers(path, *found, "wkv", 1, 1).first;
  const Numbers value = numbers(path, *found, "ffn_value", 1, most_slices(weights.config));
  shapes.value_threads = value.first;
  shapes.value_slices = value.second;
  return shapes;
}

void store_shapes(const std::string& path, const DeviceInfo& info, const Weights& weights,
                  const LaunchShapes& shapes) {
  if (path.empty())
    fail("there is no home folder to keep the measured shapes in: set GANDER_TUNING");
  Json json = read_file(path);
  if (json.empty()) json = {{"version", kTuningVersion}, {"shapes", Json::object()}};
  const auto rows = [](const RowShape& shape) { return Json{shape.threads, shape.rows}; };
  json["shapes"][key_of(info, weights)] = {
      {"time_mix_in", rows(shapes.time_mix_in)},
      {"wkv", Json{shapes.wkv_threads, 1}},
      {"time_mix_out", rows(shapes.time_mix_out)},
      {"ffn_key", rows(shapes.ffn_key)},
      {"ffn_value", Json{shapes.value_threads, shapes.value_slices}},
      {"head", rows(shapes.head)}};
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (error) fail("cannot create {}: {}", folder.string(), error.message());
  AtomicFile file(path);
  const std::string text = json.dump(2) + "\n";
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace gander::gpu
