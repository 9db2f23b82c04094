#include "backend/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

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
  const SequenceStep step = {0, tokens, which};
  this->step({&step, 1}, logits);
}

void CpuBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                      std::span<TokenId> best) {
  const bool returns_logits = !logits.empty();
  std::size_t read = 0;  // of the first step's tokens
  while (!steps.empty()) {
    Chunk chunk = next_chunk(steps, read);
    if (!returns_logits && best.empty()) chunk.wanted = {};
    const std::size_t floats = chunk.wanted.size() * config().vocab_size;
    if (!returns_logits && logits_.size() < floats) logits_.resize(floats);
    chunk.logits = returns_logits ? logits.data() : logits_.data();
    chunk.best = best.empty() ? nullptr : best.data();
    pool_.run([this, chunk](Worker& worker) { run_chunk(worker, chunk); });
    if (returns_logits) logits = logits.subspan(floats);
    if (!best.empty()) best = best.subspan(chunk.wanted.size());
  }
}

// As many of the next rows as a chunk takes; a sequence may go on in the next one.
CpuBackend::Chunk CpuBackend::next_chunk(std::span<const SequenceStep>& steps, std::size_t& read) {
  std::size_t rows = 0;
  std::size_t sequences = 0;
  std::size_t wanted = 0;
  while (!steps.empty() && rows < kChunk) {
    const SequenceStep& step = steps.front();
    const auto part = step.tokens.subspan(read, std::min(step.tokens.size() - read, kChunk - rows));
    read += part.size();
    const bool ends = read == step.tokens.size();
    std::ranges::copy(part, tokens_.begin() + static_cast<std::ptrdiff_t>(rows));
    sequences_[sequences++] = {&states_[step.slot], rows, rows + part.size()};
    rows += part.size();
    std::size_t first = rows;  // that wants logits
    if (step.which == Logits::All) first = rows - part.size();
    if (step.which == Logits::Last && ends) first = rows - 1;
    while (first < rows) wanted_[wanted++] = static_cast<std::uint32_t>(first++);
    if (ends) {
      steps = steps.subspan(1);
      read = 0;
    }
  }
  return {std::span(tokens_).first(rows), std::span(sequences_).first(sequences),
          std::span(wanted_).first(wanted), nullptr, nullptr};
}

void CpuBackend::read_state(State& state, std::uint32_t slot) const {
  state = states_[slot];
  transpose_matrices(state);
}

void CpuBackend::write_state(const State& state, std::uint32_t slot) {
  states_[slot] = state;
  transpose_matrices(states_[slot]);
}

void CpuBackend::run_chunk(Worker& worker, const Chunk& chunk) {
  const StageContext context = {weights_,        kernels_, activations_,
                                chunk.sequences, worker,   chunk.tokens.size()};
  embed(context, chunk.tokens);
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    time_mix_in(context, layer);
    wkv(context, layer);
    time_mix_out(context, layer);
    ffn_key(context, layer);
    ffn_value(context, layer);
  }
  head(context, chunk.wanted, chunk.logits);
  if (chunk.best == nullptr) return;
  worker.share(chunk.wanted.size(), [&](std::size_t i) {
    const std::size_t size = config().vocab_size;
    const std::span<const float> logits(chunk.logits + i * size, size);
    chunk.best[i] = static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
  });
}

}  // namespace gander
