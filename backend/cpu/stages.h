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

/// Rows begin to end - 1 of every buffer are the next tokens of the sequence that has `state`.
struct SequenceRows {
  State* state;
  std::size_t begin, end;
};

/// One thread's view of the work on a chunk of tokens.
struct StageContext {
  const CpuWeights& weights;
  const Kernels& kernels;
  Activations& buffers;
  /// One after the other, each with at least one row, each state once. What it points to may be
  /// read within steps of the worker only.
  std::span<const SequenceRows> sequences;
  Worker& worker;      ///< this thread
  std::size_t tokens;  ///< rows in use of every buffer: those of all sequences
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
/// Logits of some rows, [wanted rows][V].
void head(const StageContext& context, std::span<const std::uint32_t> wanted, float* logits);

}  // namespace gander
