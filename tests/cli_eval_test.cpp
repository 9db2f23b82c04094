#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/gguf_export.h"
#include "tests/support/cli.h"
#include "tests/support/synthetic_model.h"

namespace gander {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class CliEvalCompare : public ::testing::Test {
 protected:
  CliEvalCompare() {
    std::string text;
    for (int i = 0; i < 130; ++i) text += "once the story, User";  // more than one row of figures
    text_ = folder_.write("text", text);
  }

  std::string export_as(const std::string& name, DataType type) const {
    export_gguf(folder_.path(name), folder_.weights(), &folder_.tokenizer(), store_as(type, type));
    return folder_.path(name);
  }

  json compare(const std::string& model, const std::string& reference) const {
    const ProcessResult result =
        run_gander({"eval", model, text_, "--compare", reference, "--json"});
    EXPECT_EQ(result.code, 0) << result.err;
    return json::parse(result.out);
  }

  const CliFolder folder_;
  std::string text_;
};

TEST_F(CliEvalCompare, AModelDoesNotDivergeFromItself) {
  const json result = compare(folder_.model(), folder_.model());
  EXPECT_EQ(result["kl_mean"], 0);
  EXPECT_EQ(result["kl_max"], 0);
  EXPECT_EQ(result["same_top"], 1);
  EXPECT_EQ(result["perplexity_ratio"], 1);
  const json alone = json::parse(run_gander({"eval", folder_.model(), text_, "--json"}).out);
  EXPECT_EQ(result["nll"], alone["nll"]);
  EXPECT_EQ(result["reference_nll"], alone["nll"]);
  EXPECT_EQ(result["bits_per_byte"], alone["bits_per_byte"]);
}

TEST_F(CliEvalCompare, AQuantisedModelDivergesMoreWithFewerBits) {
  const json fine = compare(export_as("q8.gguf", DataType::Q8_0), folder_.model());
  const json coarse = compare(export_as("q4.gguf", DataType::Q4_0), folder_.model());
  EXPECT_GT(fine["kl_mean"], 0);
  EXPECT_GT(coarse["kl_mean"], 10 * fine["kl_mean"].get<double>());
  EXPECT_LT(coarse["same_top"], 1);
  EXPECT_LE(fine["kl_median"], fine["kl_99"]);
  EXPECT_LE(fine["kl_99"], fine["kl_max"]);
  EXPECT_NEAR(coarse["perplexity_ratio"],
              coarse["perplexity"].get<double>() / coarse["reference_perplexity"].get<double>(),
              1e-9);
}

TEST_F(CliEvalCompare, TheFiguresAreThoseOfTheLogits) {
  const std::string model = export_as("q4.gguf", DataType::Q4_0);
  const std::vector<TokenId> tokens = folder_.tokenizer().encode("once the story");
  const std::string short_text = folder_.write("short", "once the story");
  std::string read = "0";
  double sum = 0;
  double reference_nll = 0;
  for (const TokenId token : tokens) {
    const auto distribution = [&](const std::string& path) {
      const ProcessResult result = run_gander({"logits", path, "--tokens", read, "--json"});
      auto values = json::parse(result.out)["logits"].get<std::vector<double>>();
      double total = 0;
      for (double& value : values) total += value = std::exp(value);
      for (double& value : values) value /= total;
      return values;
    };
    const std::vector<double> p = distribution(folder_.model());
    const std::vector<double> q = distribution(model);
    for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * std::log(p[i] / q[i]);
    reference_nll -= std::log(p[token]);
    read += "," + std::to_string(token);
  }
  const auto count = static_cast<double>(tokens.size());
  const json result = json::parse(
      run_gander({"eval", model, short_text, "--compare", folder_.model(), "--json"}).out);
  EXPECT_NEAR(result["kl_mean"], sum / count, 1e-6 * sum);
  EXPECT_NEAR(result["reference_nll"], reference_nll / count, 1e-6);
}

TEST_F(CliEvalCompare, RowsShowTheFiguresSoFar) {
  const json result = compare(export_as("q8.gguf", DataType::Q8_0), folder_.model());
  const json& rows = result["chunks"];
  ASSERT_GE(rows.size(), 2U);
  EXPECT_EQ(rows[0]["tokens"], 512);
  EXPECT_EQ(rows.back()["tokens"], result["tokens"]);
  EXPECT_EQ(rows.back()["kl_mean"], result["kl_mean"]);
  const std::string human =
      run_gander({"eval", folder_.model(), text_, "--compare", folder_.model()}).out;
  EXPECT_THAT(human, HasSubstr("\n     512 "));
  EXPECT_THAT(human, HasSubstr("the same likeliest token: 100.00 %"));
}

TEST_F(CliEvalCompare, OtherVocabulariesAreRefused) {
  const auto refuses = [&](const std::string& other, const std::string& reason) {
    const ProcessResult result = run_gander({"eval", folder_.model(), text_, "--compare", other});
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(reason));
  };
  refuses(folder_.path("absent"), "No such file");
  Config config = folder_.weights().config;
  config.vocab_size += 12;
  export_gguf(folder_.path("larger.gguf"), make_synthetic_weights(config, 1), nullptr,
              store_as(DataType::F32, DataType::F32));
  refuses(folder_.path("larger.gguf"), "300 tokens");
  std::vector<std::string> tokens(300);
  for (TokenId id = 1; id < tokens.size(); ++id) tokens[id] = folder_.tokenizer().bytes(id);
  tokens[299] = "another";
  const Tokenizer other(tokens);
  export_gguf(folder_.path("other.gguf"), folder_.weights(), &other,
              store_as(DataType::F32, DataType::F32));
  refuses(folder_.path("other.gguf"), "different vocabularies");
  // Without a vocabulary of its own it is taken to have the model's.
  EXPECT_EQ(compare(folder_.model(), folder_.bare_model())["kl_max"], 0);
}

}  // namespace
}  // namespace gander
