#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/activations.h"
#include "backend/cpu/cpu_weights.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/thread_pool.h"
#include "model/state.h"
#include "model/weights.h"

namespace gander {

/// One thread's view of the work on a chunk of tokens.
struct StageContext {
  const CpuWeights& weights;
  const Kernels& kernels;
  Activations& buffers;
  State& state;
  Worker& worker;      ///< this thread
  std::size_t tokens;  ///< rows in use of every buffer
};

/// Stage by stage through the model; every thread calls each function. A stage is one or two steps
/// (Worker::share): the token shift comes before the matrices that read it. Formulas:
/// docs/architecture.md.
void embed(const StageContext& context, std::span<const TokenId> tokens);
void time_mix_in(const StageContext& context, std::uint32_t layer);   // A
void wkv(const StageContext& context, std::uint32_t layer);           // B
void time_mix_out(const StageContext& context, std::uint32_t layer);  // C
void ffn_key(const StageContext& context, std::uint32_t layer);       // D
void ffn_value(const StageContext& context, std::uint32_t layer);     // E
/// Logits of the last `wanted` tokens, [wanted][V].
void head(const StageContext& context, std::size_t wanted, float* logits);

}  // namespace gander
