#include "model/recipe.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace gander {

namespace {

constexpr std::array<Mix, 3> kMixes = {{
    {"balanced", "head, embedding and the time mix's output one type better"},
    {"rich", "the head two types better, embedding and all of the time mix one"},
    {"plain", "every large matrix in the type itself"},
}};

bool is_low_rank(std::string_view name) {
  constexpr std::string_view kParts[] = {"_w1.", "_w2.", "_a1.", "_a2.",
                                         "_v1.", "_v2.", "_g1.", "_g2."};
  return std::ranges::any_of(
      kParts, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

bool has_8_bits(DataType type) {
  return type == DataType::F32 || type == DataType::F16 || type == DataType::BF16 ||
         type == DataType::Q8_0;
}

DataType better(DataType type, int steps) {
  constexpr std::array kLadder = {DataType::Q4_K, DataType::Q5_K, DataType::Q6_K, DataType::Q8_0};
  if (steps == 0) return type;
  if (type == DataType::Q4_0) type = DataType::Q4_K;
  const auto place = std::ranges::find(kLadder, type);
  if (place == kLadder.end()) return type;
  const auto last = kLadder.size() - 1;
  return kLadder[std::min(last, static_cast<std::size_t>(place - kLadder.begin() + steps))];
}

/// How many types better than the recipe's a large matrix is, by what its rounding costs for its
/// bytes: measured on the built-in model, docs/commands.md.
int steps_better(std::string_view mix, std::string_view name) {
  const auto is = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (mix == "plain") return 0;
  const bool head = name.starts_with("output.");
  if (mix == "rich") return head ? 2 : is("token_embd.") || is("time_mix_") ? 1 : 0;
  return head || is("token_embd.") || is("time_mix_output.") ? 1 : 0;
}

}  // namespace

std::span<const Mix> mixes() {
  return kMixes;
}

DataType intended_type(const Recipe& recipe, std::string_view name) {
  DataType type = better(recipe.type, steps_better(recipe.mix, name));
  if (is_low_rank(name)) type = has_8_bits(recipe.type) ? recipe.type : DataType::Q8_0;
  for (const auto& [part, exception] : recipe.exceptions) {
    if (name.find(part) != std::string_view::npos) type = exception;
  }
  return type;
}

ChooseType choose_by(const Recipe& recipe) {
  if (std::ranges::find(kMixes, recipe.mix, &Mix::name) == kMixes.end()) {
    fail("there is no mix called {}; the mixes are balanced, rich and plain", recipe.mix);
  }
  return [recipe](std::string_view name, const Matrix& matrix) {
    for (const DataType type : {intended_type(recipe, name), DataType::Q8_0}) {
      if (matrix.columns % info(type).block_size == 0) return type;
    }
    return DataType::F16;
  };
}

}  // namespace gander
