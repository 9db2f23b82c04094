#include "apps/gander/gguf_metadata.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/error.h"

namespace gander {
namespace {

constexpr std::string_view kOwnKeys[] = {"general.architecture", "general.quantization_version",
                                         "general.alignment", "general.file_type"};

bool is_own(std::string_view key) {
  return key.starts_with("rwkv7.") || key.starts_with("tokenizer.ggml.") ||
         std::ranges::find(kOwnKeys, key) != std::end(kOwnKeys);
}

bool has(const GgufMetadata& metadata, std::string_view key) {
  return std::ranges::any_of(metadata, [&](const auto& entry) { return entry.first == key; });
}

// "[a,b]" as two texts.
std::vector<std::string> parse_list(std::string_view text) {
  std::vector<std::string> words;
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    words.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return words;
}

// llama.cpp's number for a mix of types (enum llama_ftype).
std::uint32_t file_type(const Recipe& recipe) {
  const bool mixed = recipe.mix != "plain" || !recipe.exceptions.empty();
  switch (recipe.type) {
    case DataType::F32:
      return 0;
    case DataType::F16:
      return 1;
    case DataType::Q4_0:
      return 2;
    case DataType::Q8_0:
      return 7;
    case DataType::Q4_K:
      return mixed ? 15 : 14;
    case DataType::Q5_K:
      return mixed ? 17 : 16;
    case DataType::Q6_K:
      return 18;
    case DataType::BF16:
      return 32;
  }
  return 0;
}

}  // namespace

GgufMetadata parse_metadata(const std::vector<std::string>& pairs) {
  GgufMetadata metadata;
  for (const std::string& pair : pairs) {
    const std::size_t equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos) {
      fail("--metadata {}: expected KEY=VALUE, for example general.name=small", pair);
    }
    const std::string key = pair.substr(0, equals);
    const std::string value = pair.substr(equals + 1);
    if (is_own(key)) fail("--metadata {}: this key follows from the model", key);
    if (has(metadata, key)) fail("--metadata {}: given twice", key);
    if (value.starts_with('[') && value.ends_with(']') && value.size() > 1) {
      metadata.emplace_back(key, parse_list(value));
    } else {
      metadata.emplace_back(key, value);
    }
  }
  return metadata;
}

GgufMetadata metadata_for(const TensorSource& source, const Recipe& recipe,
                          const GgufMetadata& given) {
  GgufMetadata metadata = given;
  for (const auto& [key, value] : source.metadata) {
    const bool describes = key.starts_with("general.") || key == "tokenizer.chat_template";
    if (!describes || is_own(key) || has(metadata, key)) continue;
    if (const auto* text = std::get_if<std::string>(&value)) metadata.emplace_back(key, *text);
    if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
      metadata.emplace_back(key, *list);
    }
  }
  if (!has(metadata, "general.name")) {
    const std::filesystem::path path(source.path);
    metadata.emplace_back("general.name",
                          (path.has_stem() ? path : path.parent_path()).stem().string());
  }
  metadata.emplace_back("general.file_type", file_type(recipe));
  return metadata;
}

}  // namespace gander
