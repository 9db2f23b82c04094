#include "backend/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backend/cpu/stages.h"

namespace gander {

CpuBackend::CpuBackend(std::shared_ptr<const Weights> weights, unsigned threads,
                       const Kernels& kernels)
    : kernels_(kernels),
      pool_(threads),
      weights_(prepare_weights(std::move(weights), pool_)),
      state_(weights_.source->config),
      activations_(weights_.source->config, kChunk, threads) {}

std::string CpuBackend::description() const {
  return fmt::format("cpu ({}, {} thread{})", kernels_.instruction_set, pool_.size(),
                     pool_.size() == 1 ? "" : "s");
}

void CpuBackend::forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) {
  while (!tokens.empty()) {
    const std::span<const TokenId> chunk = tokens.first(std::min(tokens.size(), kChunk));
    tokens = tokens.subspan(chunk.size());
    std::size_t wanted = 0;
    if (which == Logits::All) wanted = chunk.size();
    if (which == Logits::Last && tokens.empty()) wanted = 1;

    struct Job {
      CpuBackend* backend;
      std::span<const TokenId> tokens;
      std::size_t wanted;
      float* logits;
    } job = {this, chunk, wanted, logits.data()};
    pool_.run(
        [](void* context, unsigned thread) {
          const Job& j = *static_cast<const Job*>(context);
          j.backend->run_chunk(thread, j.tokens, j.wanted, j.logits);
        },
        &job);
    logits = logits.subspan(wanted * config().vocab_size);
  }
}

void CpuBackend::run_chunk(unsigned thread, std::span<const TokenId> tokens, std::size_t wanted,
                           float* logits) {
  const StageContext context = {weights_, kernels_, activations_, state_,
                                pool_,    thread,   tokens.size()};
  embed(context, tokens);
  pool_.barrier();
  for (std::uint32_t layer = 0; layer < config().layers; ++layer) {
    time_mix_in(context, layer);
    pool_.barrier();
    wkv(context, layer);
    pool_.barrier();
    time_mix_out(context, layer);
    pool_.barrier();
    ffn_key(context, layer);
    pool_.barrier();
    ffn_value(context, layer);
    pool_.barrier();
  }
  if (wanted > 0) head(context, wanted, logits);
}

}  // namespace gander
