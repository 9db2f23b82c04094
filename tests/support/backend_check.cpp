#include "tests/support/backend_check.h"

#include <random>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference_backend.h"

namespace gander {

std::vector<TokenId> some_tokens(const Config& config, std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % config.vocab_size);
  return tokens;
}

std::vector<float> logits_of(Backend& backend, const std::vector<TokenId>& tokens) {
  std::vector<float> logits(tokens.size() * backend.config().vocab_size);
  backend.forward(tokens, Logits::All, logits);
  return logits;
}

std::vector<float> state_of(const Backend& backend, std::uint32_t slot) {
  State state(backend.config());
  backend.read_state(state, slot);
  return {state.values().begin(), state.values().end()};
}

ReferenceRun::ReferenceRun(std::shared_ptr<const Weights> model, std::size_t count)
    : weights(std::move(model)), tokens(some_tokens(weights->config, count)) {
  ReferenceBackend reference(weights);
  logits = logits_of(reference, tokens);
  state = state_of(reference);
}

double cpu_error(const ReferenceRun& reference, const Kernels& kernels, unsigned threads) {
  CpuBackend cpu(reference.weights, threads, kernels);
  const std::vector<float> logits = logits_of(cpu, reference.tokens);
  const DataType type = reference.weights->head.type;
  return std::max(error_for<float, float>(type, logits, reference.logits),
                  error_for<float, float>(type, state_of(cpu), reference.state));
}

double error_of(Backend& backend, const std::shared_ptr<const Weights>& weights,
                std::size_t tokens) {
  const ReferenceRun reference(weights, tokens);
  const std::vector<float> logits = logits_of(backend, reference.tokens);
  return std::max(relative_error<float, float>(logits, reference.logits),
                  relative_error<float, float>(state_of(backend), reference.state));
}

Config odd_config() {
  Config config;
  config.vocab_size = 101;
  config.heads = 3;
  config.head_size = 23;
  config.width = config.heads * config.head_size;
  config.layers = 2;
  config.ffn_width = 131;
  config.rank_w = 5;
  config.rank_a = 7;
  config.rank_v = 3;
  config.rank_g = 18;
  return config;
}

}  // namespace gander
