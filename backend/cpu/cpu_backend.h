#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/activations.h"
#include "backend/cpu/cpu_weights.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/stages.h"
#include "backend/cpu/thread_pool.h"

namespace gander {

/// Runs a model on the CPU: fp32 activations, weights in their stored type (packed.h), which meet
/// 8-bit activations when they are quantised.
///
/// A chunk of up to kChunk tokens, of one sequence or of many, goes through the five stages of each
/// layer (stages.h) on all threads. Every output value is computed by one thread in an order that
/// depends on the model's widths only, so the bits are the same for any number of threads, any
/// split of a text into chunks, and any company.
class CpuBackend final : public Backend {
 public:
  static constexpr std::size_t kChunk = 128;

  CpuBackend(std::shared_ptr<const Weights> weights, unsigned threads,
             const Kernels& kernels = best_kernels(), std::uint32_t slots = 1);

  const Config& config() const override { return weights_.source->config; }
  std::string description() const override;
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override;
  std::uint32_t slots() const override { return static_cast<std::uint32_t>(states_.size()); }
  /// The rows of all sequences one after the other, in chunks: each reads the weights once.
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best = {}) override;
  void read_state(State& state, std::uint32_t slot = 0) const override;
  void write_state(const State& state, std::uint32_t slot = 0) override;
  void reset(std::uint32_t slot = 0) override { states_[slot].clear(); }

 private:
  // Rows of a chunk; the arrays belong to the backend, so that threads that are late may have them.
  struct Chunk {
    std::span<const TokenId> tokens;
    std::span<const SequenceRows> sequences;
    std::span<const std::uint32_t> wanted;  // rows whose logits are
    float* logits;                          // [wanted][V]
    TokenId* best;                          // [wanted], or null
  };

  Chunk next_chunk(std::span<const SequenceStep>& steps, std::size_t& read);
  void run_chunk(Worker& worker, const Chunk& chunk);

  const Kernels& kernels_;
  CpuWeights weights_;
  std::vector<State> states_;  // by slot, with the matrices S transposed: see HeadStep
  Activations activations_;
  std::array<TokenId, kChunk> tokens_ = {};  // what a Chunk refers to
  std::array<SequenceRows, kChunk> sequences_ = {};
  std::array<std::uint32_t, kChunk> wanted_ = {};
  std::vector<float> logits_;  // of a chunk, where only the largest are asked for
  ThreadPool pool_;            // destroyed first: its threads may look at the others until it is
};

}  // namespace gander
