#include "tests/support/backend_check.h"

#include <random>

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

std::vector<float> state_of(const Backend& backend) {
  State state(backend.config());
  backend.read_state(state);
  return {state.values().begin(), state.values().end()};
}

double error_against_reference(const std::shared_ptr<const Weights>& weights,
                               const Kernels& kernels, unsigned threads, std::size_t tokens) {
  ReferenceBackend reference(weights);
  CpuBackend cpu(weights, threads, kernels);
  const std::vector<TokenId> text = some_tokens(weights->config, tokens);
  const std::vector<float> expected = logits_of(reference, text);
  const std::vector<float> actual = logits_of(cpu, text);
  const std::vector<float> expected_state = state_of(reference);
  const std::vector<float> actual_state = state_of(cpu);
  const DataType type = weights->head.type;
  return std::max(error_for<float, float>(type, actual, expected),
                  error_for<float, float>(type, actual_state, expected_state));
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
