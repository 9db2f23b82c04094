#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backend/cpu/activations.h"
#include "backend/cpu/cpu_weights.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/thread_pool.h"
#include "model/state.h"
#include "model/weights.h"

namespace gander {

enum Stage : std::size_t { kEmbed, kTimeMixIn, kWkv, kTimeMixOut, kFfnKey, kFfnValue, kHead };
inline constexpr std::array<std::string_view, 7> kStageNames = {
    "embed", "A time-mix in", "B wkv", "C time-mix out", "D ffn key", "E ffn value", "head"};

/// Seconds that each stage took, summed over the layers; waiting for the last thread included.
using StageSeconds = std::array<double, kStageNames.size()>;

/// The token program of CpuBackend with a look at the clock after each stage.
class StageProgram {
 public:
  StageProgram(std::shared_ptr<const Weights> weights, unsigned threads);

  const char* instruction_set() const { return kernels_.instruction_set; }
  /// Reads at most CpuBackend::kChunk tokens at once, and computes the logits of the last one.
  StageSeconds run(std::span<const TokenId> tokens);
  /// Share of hidden units that relu² leaves zero, over these tokens, read one by one.
  double zeros(std::span<const TokenId> tokens);
  /// Seconds of a step of the pool that does nothing: the mean of many in a row.
  double step();
  /// Seconds of waking the threads for a job that does nothing.
  double wake();

 private:
  struct Pass;
  Pass pass(std::span<const TokenId> tokens, StageSeconds& seconds, std::uint64_t* zeros);

  const Kernels& kernels_;
  CpuWeights weights_;
  State state_;
  Activations activations_;
  std::vector<float> logits_;
  ThreadPool pool_;  // destroyed first: its threads may look at the others until it is
};

/// Bytes that a stage reads for one token, all layers together: its matrices once, and for B the
/// state, which is written as well.
std::array<std::uint64_t, kStageNames.size()> stage_bytes(const Weights& weights);

}  // namespace gander
