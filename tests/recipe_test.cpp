#include "model/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr const char* kHead = "output.weight";
constexpr const char* kEmbedding = "token_embd.weight";
constexpr const char* kKey = "blk.3.time_mix_key.weight";
constexpr const char* kOutput = "blk.3.time_mix_output.weight";
constexpr const char* kFfn = "blk.3.channel_mix_key.weight";
constexpr const char* kLowRank = "blk.3.time_mix_a2.weight";

DataType chosen(const Recipe& recipe, std::string_view name, std::uint32_t columns = 512) {
  return choose_by(recipe)(name, {DataType::F16, 512, columns, nullptr});
}

TEST(Recipe, MixesGiveMoreWhereItCounts) {
  const auto types = [](const Recipe& recipe) {
    std::vector<DataType> result;
    for (const char* name : {kHead, kEmbedding, kKey, kOutput, kFfn}) {
      result.push_back(chosen(recipe, name));
    }
    return result;
  };
  using enum DataType;
  using Types = std::vector<DataType>;
  EXPECT_EQ(types({Q4_K, "balanced"}), (Types{Q5_K, Q5_K, Q4_K, Q5_K, Q4_K}));
  EXPECT_EQ(types({Q5_K, "balanced"}), (Types{Q6_K, Q6_K, Q5_K, Q6_K, Q5_K}));
  EXPECT_EQ(types({Q6_K, "balanced"}), (Types{Q8_0, Q8_0, Q6_K, Q8_0, Q6_K}));
  EXPECT_EQ(types({Q4_0, "balanced"}), (Types{Q5_K, Q5_K, Q4_0, Q5_K, Q4_0}));
  EXPECT_EQ(types({Q6_K, "rich"}), (Types{Q8_0, Q8_0, Q8_0, Q8_0, Q6_K}));
  EXPECT_EQ(types({Q4_K, "rich"}), (Types{Q6_K, Q5_K, Q5_K, Q5_K, Q4_K}));
  EXPECT_EQ(types({Q4_K, "plain"}), Types(5, Q4_K));
  for (const DataType type : {Q8_0, F16, BF16}) {
    EXPECT_EQ(types({type, "rich"}), Types(5, type)) << name(type);
  }
}

TEST(Recipe, LowRankMatricesKeepEightBits) {
  using enum DataType;
  for (const DataType type : {Q4_K, Q5_K, Q6_K, Q4_0, Q8_0}) {
    EXPECT_EQ(chosen({type, "plain"}, kLowRank, 64), Q8_0) << name(type);
    EXPECT_EQ(chosen({type, "rich"}, kLowRank, 64), Q8_0) << name(type);
  }
  EXPECT_EQ(chosen({F16}, kLowRank, 64), F16);
  EXPECT_EQ(chosen({BF16}, kLowRank, 64), BF16);
}

TEST(Recipe, RowsThatAreNoWholeBlocksGetALargerType) {
  const Recipe recipe{DataType::Q4_K, "plain"};
  EXPECT_EQ(chosen(recipe, kFfn, 768), DataType::Q4_K);
  EXPECT_EQ(chosen(recipe, kFfn, 800), DataType::Q8_0);
  EXPECT_EQ(chosen(recipe, kFfn, 810), DataType::F16);
  EXPECT_EQ(chosen(recipe, kLowRank, 24), DataType::F16);
  EXPECT_EQ(intended_type(recipe, kFfn), DataType::Q4_K);
}

TEST(Recipe, ExceptionsWinAndTheLastCounts) {
  const Recipe recipe{DataType::Q4_K,
                      "balanced",
                      {{"time_mix", DataType::Q8_0}, {"blk.3.time_mix_key", DataType::F16}}};
  EXPECT_EQ(chosen(recipe, kKey), DataType::F16);
  EXPECT_EQ(chosen(recipe, "blk.4.time_mix_key.weight"), DataType::Q8_0);
  EXPECT_EQ(chosen(recipe, kFfn), DataType::Q4_K);
}

TEST(Recipe, AnUnknownMixIsAnError) {
  EXPECT_THAT(
      [] {
        choose_by({DataType::Q4_K, "lean"});
      },
      ThrowsMessage<Error>(HasSubstr("no mix called lean")));
}

}  // namespace
}  // namespace gander
