#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/batch/batch_dispatcher.h"
#include "backend/gpu/device.h"

namespace gander::gpu {

/// Runs steps of many sequences on a Device. Programs are recorded for shapes (bucket_of) when they
/// are first wanted, and the latest kPrograms of them kept.
class BatchRunner {
 public:
  static constexpr std::size_t kPrograms = 32;
  /// A text that needs more rows than a program has is cut; so few are no use.
  static constexpr std::uint32_t kLeastRows = 16;

  /// Bytes of the buffers; the states are not among them.
  static std::uint64_t plan_bytes(const Config& config, std::uint32_t rows, std::uint32_t slots,
                                  const DeviceInfo& info);

  /// `weights` and `device` outlive it; `tensor` as in BatchMemory. A program has up to `rows`
  /// tokens, of sequences in `slots` slots.
  BatchRunner(const Config& config, const ModelWeights& weights, bool tensor,
              const StateBuffers& state, std::uint32_t rows, std::uint32_t slots, Device& device);

  /// Feeds the steps, as Backend::step says. Returns the number of the last submission.
  std::uint64_t step(std::span<const SequenceStep> steps, std::span<float> logits,
                     std::span<TokenId> best);

  /// Takes over a sequence's sampling, as Backend::start_sampling says. What was submitted has run.
  bool start_sampling(std::uint32_t slot, const SamplerSettings& settings,
                      const SamplerMemory& memory);

  /// The program for such a step; for tests and measurements.
  const Program& program(const BatchShape& exact) { return cached(exact, 0); }
  const BatchMemory& memory() const { return memory_; }
  std::size_t programs() const { return cache_.size(); }

 private:
  struct Cached {
    BatchShape shape;
    std::size_t tables;
    Program program;
    std::uint64_t last = 0;  // submission
  };

  const Program& cached(const BatchShape& exact, std::size_t tables);
  void add_rows(const SequenceStep& step, std::size_t begin, std::size_t count);
  void clear_rows();
  void run_part(std::span<float>& logits, std::span<TokenId>& best);

  Config config_;
  Device& device_;
  Recorder recorder_;
  BatchMemory memory_;
  std::list<Cached> cache_;  // the latest first
  // Of the part of a step that is being gathered.
  std::vector<BatchRow> rows_;
  std::vector<BatchSequence> sequences_;
  std::vector<std::uint32_t> wanted_, sampled_;
  bool samples_ = false;                         // any of them
  std::size_t turn_ = 0;                         // which tables the next part takes
  std::array<std::uint64_t, 2> in_flight_ = {};  // last submission that reads each
  std::uint64_t last_ = 0;
};

}  // namespace gander::gpu
