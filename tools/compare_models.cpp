// How far a model's predictions are from another's, on a text: mean Kullback-Leibler divergence
// sum_i p_i ln(p_i / q_i) of the second from the first, and how often both like the same token
// best. usage: compare_models ORIGINAL MODEL TEXT [TOKENS]     (the tokenizer is the second
// model's)
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "engine/model.h"

namespace gander {
namespace {

constexpr std::size_t kChunk = 64;

// ln softmax of a row of logits, in place.
void log_softmax(std::span<float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  const double shift = largest + std::log(sum);
  for (float& logit : logits) logit = static_cast<float>(logit - shift);
}

std::size_t best(std::span<const float> row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

void compare(const char* original, const char* other, const char* text_path, std::size_t limit) {
  const Model models[2] = {open_model(original), open_model(other)};
  const Config& config = models[0].config();
  if (config.vocab_size != models[1].config().vocab_size) fail("the vocabularies differ in size");
  std::ifstream file(text_path, std::ios::binary);
  if (!file) fail("cannot read {}", text_path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::vector<TokenId> tokens = {0};
  require_tokenizer(models[1]).encode(text, tokens);
  const std::size_t count = std::min(tokens.size() - 1, limit);

  const std::unique_ptr<Backend> backends[2] = {create_backend("cpu", models[0].weights),
                                                create_backend("cpu", models[1].weights)};
  std::vector<float> logits[2];
  double divergence = 0;
  double loss[2] = {};
  std::size_t same = 0;
  for (std::size_t first = 0; first < count; first += kChunk) {
    const std::size_t rows = std::min(kChunk, count - first);
    for (int m = 0; m < 2; ++m) {
      logits[m].resize(rows * config.vocab_size);
      backends[m]->forward(std::span(tokens).subspan(first, rows), Logits::All, logits[m]);
    }
    for (std::size_t i = 0; i < rows; ++i) {
      std::span<float> row[2];
      for (int m = 0; m < 2; ++m) {
        row[m] = std::span(logits[m]).subspan(i * config.vocab_size, config.vocab_size);
        log_softmax(row[m]);
        loss[m] -= row[m][tokens[first + i + 1]];
      }
      for (std::size_t v = 0; v < config.vocab_size; ++v) {
        divergence += std::exp(double{row[0][v]}) * (double{row[0][v]} - row[1][v]);
      }
      same += best(row[0]) == best(row[1]) ? 1 : 0;
    }
  }
  const auto n = static_cast<double>(count);
  fmt::print(
      "{} tokens: divergence {:.6f} nats, same best token {:.2f} %, loss {:.6f} and {:.6f}\n",
      count, divergence / n, 100 * static_cast<double>(same) / n, loss[0] / n, loss[1] / n);
}

}  // namespace
}  // namespace gander

int main(int count, char** arguments) {
  if (count != 4 && count != 5) {
    fmt::print(stderr, "usage: compare_models ORIGINAL MODEL TEXT [TOKENS]\n");
    return 1;
  }
  try {
    gander::compare(arguments[1], arguments[2], arguments[3],
                    count == 5 ? std::strtoull(arguments[4], nullptr, 10) : SIZE_MAX);
  } catch (const std::exception& error) {
    fmt::print(stderr, "compare_models: {}\n", error.what());
    return 1;
  }
  return 0;
}
