#include "backend/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backend/cpu/stages.h"

namespace gander {

namespace {

void transpose_matrices(State& state) {
  const std::size_t n = state.head_size();
  for (std::uint32_t layer = 0; layer < state.layers(); ++layer) {
    for (std::uint32_t head = 0; head < state.heads(); ++head) {
      float* s = state.matrix(layer).data() + head * n * n;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) std::swap(s[i * n + j], s[j * n + i]);
      }
    }
  }
}

}  // namespace

CpuBackend::CpuBackend(std::shared_ptr<const Weights> weights, unsigned threads,
                       const Kernels& kernels, std::uint32_t slots)
    : kernels_(kernels),
      states_(slots, State(weights->config)),
      activations_(weights->config, kChunk, threads),
      pool_(threads) {
  weights_ = prepare_weights(std::move(weights), pool_);
}

std::string CpuBackend::description() const {
  return fmt::format("cpu ({}, {} thread{})", kernels_.instruction_set, pool_.size(),
                     pool_.size() == 1 ? "" : "s");
}

void CpuBackend::forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) {
  feed({0, tokens, which}, logits);
}

void CpuBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                      std::span<TokenId> best) {
  step_by_sequence(steps, config().vocab_size, logits, best,
                   [this](const SequenceStep& step, std::span<float> out) { feed(step, out); });
}

void CpuBackend::feed(const SequenceStep& step, std::span<float> logits) {
  State& state = states_[step.slot];
  std::span<const TokenId> tokens = step.tokens;
  while (!tokens.empty()) {
    const std::span<const TokenId> chunk = tokens.first(std::min(tokens.size(), kChunk));
    tokens = tokens.subspan(chunk.size());
    std::size_t wanted = 0;
    if (step.which == Logits::All) wanted = chunk.size();
    if (step.which == Logits::Last && tokens.empty()) wanted = 1;

    pool_.run([this, &state, chunk, wanted, out = logits.data()](Worker& worker) {
      run_chunk(worker, state, chunk, wanted, out);
    });
    logits = logits.subspan(wanted * config().vocab_size);
  }
}

void CpuBackend::read_state(State& state, std::uint32_t slot) const {
  state = states_[slot];
  transpose_matrices(state);
}

void CpuBackend::write_state(const State& state, std::uint32_t slot) {
  states_[slot] = state;
  transpose_matrices(states_[slot]);
}

void CpuBackend::run_chunk(Worker& worker, State& state, std::span<const TokenId> tokens,
                           std::size_t wanted, float* logits) {
  const StageContext context = {weights_, kernels_, activations_, state, worker, tokens.size()};
  embed(context, tokens);
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    time_mix_in(context, layer);
    wkv(context, layer);
    time_mix_out(context, layer);
    ffn_key(context, layer);
    ffn_value(context, layer);
  }
  head(context, wanted, logits);
}

}  // namespace gander
