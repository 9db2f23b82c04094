#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "backend/backend.h"
#include "model/checkpoint/tensor_source.h"
#include "model/tokenizer/tokenizer.h"

// The built-in model against the float64 reference that was computed when it was trained
// (tests/data/README.md).
namespace gander {
namespace {

constexpr float kLogitTolerance = 2e-2F;  // of a logit, F16 weights against float64

std::string source_path(const std::string& name) {
  return std::string(GANDER_SOURCE_DIR) + "/" + name;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

nlohmann::json reference() {
  return nlohmann::json::parse(read_text(source_path("tests/data/demo_reference.json")));
}

std::unique_ptr<Backend> backend_for(const std::string& path) {
  auto weights = std::make_shared<const Weights>(load_weights(open_checkpoint(path)));
  return create_backend("cpu", std::move(weights));
}

TokenId best(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

/// Mean of -ln p(token) over the first 4096 tokens of the text, after token 0.
double mean_loss(Backend& backend) {
  constexpr std::size_t kLossTokens = 4096;
  const Tokenizer tokenizer = read_vocabulary(source_path("tests/data/demo_vocab.txt"));
  std::vector<TokenId> tokens = {0};
  tokenizer.encode(read_text(source_path("tests/data/demo_text.txt")), tokens);
  EXPECT_GT(tokens.size(), kLossTokens);
  const std::size_t vocab_size = backend.config().vocab_size;
  constexpr std::size_t kChunk = 256;
  std::vector<float> logits(kChunk * vocab_size);
  double sum = 0;
  backend.reset();
  for (std::size_t begin = 0; begin < kLossTokens; begin += kChunk) {
    backend.forward(std::span(tokens).subspan(begin, kChunk), Logits::All, logits);
    for (std::size_t i = 0; i < kChunk; ++i) {
      const auto row = std::span(logits).subspan(i * vocab_size, vocab_size);
      double total = 0;
      for (const float logit : row) total += std::exp(double{logit});
      sum += std::log(total) - row[tokens[begin + i + 1]];
    }
  }
  return sum / kLossTokens;
}

TEST(DemoModel, ShippedFileKeepsTheLossAndTheTopTokens) {
  const auto backend = backend_for(source_path("models/gander-demo-25m.gguf"));
  const auto expected = reference();
  std::vector<float> logits(backend->config().vocab_size);
  for (const auto& prompt : expected["prompts"]) {
    backend->reset();
    backend->forward(prompt["tokens"].get<std::vector<TokenId>>(), Logits::Last, logits);
    EXPECT_EQ(best(logits), prompt["top20"][0][0].get<TokenId>()) << prompt["text"];
  }
  const double loss = expected["val"]["mean_nll"].get<double>();
  EXPECT_NEAR(mean_loss(*backend), loss, 0.005 * loss);
}

TEST(DemoModel, ShippedFileHasItsVocabulary) {
  const auto inside = tokenizer_of(open_checkpoint(source_path("models/gander-demo-25m.gguf")));
  ASSERT_TRUE(inside.has_value());
  const Tokenizer original = read_vocabulary(source_path("tests/data/demo_vocab.txt"));
  EXPECT_EQ(inside->fingerprint(), original.fingerprint());
  const auto expected = reference();
  for (const auto& example : expected["tokenizer"]) {
    EXPECT_EQ(inside->encode(example["text"].get<std::string>()),
              example["tokens"].get<std::vector<TokenId>>());
  }
}

/// The F16 original is too large for the repository; GANDER_DEMO_SAFETENSORS says where it is.
TEST(DemoModel, OriginalReproducesTheReference) {
  const char* const path = std::getenv("GANDER_DEMO_SAFETENSORS");
  if (path == nullptr) GTEST_SKIP() << "GANDER_DEMO_SAFETENSORS is not set";
  const auto backend = backend_for(path);
  const auto expected = reference();
  std::vector<float> logits(backend->config().vocab_size);
  for (const auto& prompt : expected["prompts"]) {
    backend->reset();
    backend->forward(prompt["tokens"].get<std::vector<TokenId>>(), Logits::Last, logits);
    for (const auto& [token, logit] :
         prompt["top20"].get<std::vector<std::pair<TokenId, float>>>()) {
      EXPECT_NEAR(logits[token], logit, kLogitTolerance) << prompt["text"] << " " << token;
    }
    double sum = 0;
    for (const float logit : logits) sum += logit;
    EXPECT_NEAR(sum, prompt["logit_sum"].get<double>(),
                kLogitTolerance * static_cast<double>(logits.size()));

    for (const auto& token : prompt["greedy_48"]) {
      std::vector<float> sorted = logits;
      std::ranges::nth_element(sorted, sorted.begin() + 1, std::greater());
      if (sorted[0] - sorted[1] < kLogitTolerance) break;
      ASSERT_EQ(best(logits), token.get<TokenId>()) << prompt["text"];
      const TokenId chosen = best(logits);
      backend->forward({&chosen, 1}, Logits::Last, logits);
    }
  }
  const double loss = expected["val"]["mean_nll"].get<double>();
  EXPECT_NEAR(mean_loss(*backend), loss, 0.002 * loss);
}

}  // namespace
}  // namespace gander
