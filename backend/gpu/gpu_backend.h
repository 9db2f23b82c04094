#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/batch/batch_runner.h"
#include "backend/gpu/gpu_generator.h"
#include "backend/gpu/held_states.h"
#include "backend/gpu/layer_dispatcher.h"
#include "backend/gpu/persistent/persistent_token.h"
#include "backend/gpu/program.h"
#include "backend/gpu/unfused_dispatcher.h"

namespace gander::gpu {

struct GpuOptions {
  std::string name = "gpu";  ///< of the backend, for people
  SyncMode sync = SyncMode::Async;
  bool unfused = false;                  ///< the plan's small kernels instead of the five stages
  bool persistent = true;                ///< one kernel a token, where device and model allow it
  std::uint32_t slots = 1;               ///< sequences whose states it has
  std::uint32_t batch_rows = 0;          ///< tokens of a step at once; 0: token by token, one slot
  bool half_states = false;              ///< S in halves; everything runs as batches then
  const LaunchShapes* shapes = nullptr;  ///< null: default_shapes
  Progress progress = nullptr;           ///< of loading
};

/// Bytes a model takes on a device, known before anything is loaded.
struct MemoryPlan {
  WeightPlan weights;
  std::uint64_t state_bytes = 0;  ///< of all slots, held states and copies to generate ahead too
  std::uint64_t activation_bytes = 0;

  std::uint64_t total() const { return weights.total() + state_bytes + activation_bytes; }
};
MemoryPlan plan_memory(const Weights& weights, const LaunchShapes& shapes, const DeviceInfo& info,
                       std::uint32_t slots = 1, bool half_states = false);

/// Throws Error when the plan exceeds what may be resident on the device, or what is free of it.
void check_memory(const MemoryPlan& plan, const DeviceInfo& info);

/// Wraps and allocates everything a token program of the model is recorded over.
ModelMemory place_model(const Weights& weights, const WeightPlan& plan, const LaunchShapes& shapes,
                        Device& device, std::uint32_t slots = 1, bool half_states = false);

/// Runs a model on a Device: a token is a program, recorded here once and submitted for each token.
/// With batch_rows texts of several tokens, and steps of several sequences, run as matrix products
/// (kernels/batch): halves as factors, so their bits are not those of the token program, but among
/// themselves equal for any split of a text and any company. Without, prompts run token by token,
/// and any split leaves the same bits. Both throw Error when the device fails; what the sequences'
/// states are then is unknown.
class GpuBackend final : public Backend {
 public:
  /// Tokens of a prompt between two waits; as many again are queued meanwhile.
  static constexpr std::uint32_t kAhead = 8;
  /// Fewer tokens of one sequence are faster one by one.
  static constexpr std::size_t kBatchFrom = 4;

  GpuBackend(std::shared_ptr<const Weights> weights, std::unique_ptr<Device> device,
             const GpuOptions& options = {});

  const Config& config() const override { return weights_->config; }
  std::string description() const override;
  void forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) override;
  std::uint32_t slots() const override { return slots_; }
  void step(std::span<const SequenceStep> steps, std::span<float> logits,
            std::span<TokenId> best = {}) override;
  std::span<const std::uint32_t> telling_lengths() const override;
  /// False without batch_rows.
  bool start_sampling(std::uint32_t slot, const SamplerSettings& settings,
                      const SamplerMemory& memory) override;
  void read_state(State& state, std::uint32_t slot = 0) const override;
  void write_state(const State& state, std::uint32_t slot = 0) override;
  void reset(std::uint32_t slot = 0) override;
  /// With several slots on a device that transfers aside; else null.
  std::unique_ptr<HeldState> hold_state(std::uint32_t slot) override;
  std::unique_ptr<HeldState> bring_state(const State& state) override;
  /// Null when every token is waited for, or recorded unfused, or states are halves.
  Generator* generator() override { return generator_.get(); }

  Device& device() const { return *device_; }
  const Weights& weights() const { return *weights_; }
  const ModelMemory& memory() const { return memory_; }
  const LaunchShapes& shapes() const { return shapes_; }
  const MemoryPlan& plan() const { return plan_; }
  /// Empty with half_states.
  const Program& token_program() const { return programs_[0]; }
  /// Null when tokens are recorded stage by stage.
  PersistentToken* persistent() { return persistent_.get(); }
  /// Null without batch_rows.
  BatchRunner* batch() { return batch_.get(); }

 private:
  void finish() const { device_->wait(last_); }
  bool runs_token_kernel(const GpuOptions& options) const;
  std::uint32_t held_that_fit(bool half_states) const;
  void place(const GpuOptions& options, bool token_kernel, std::uint32_t slots);
  void record_tokens();
  void one_by_one(std::span<const TokenId> tokens, Logits which, std::span<float> logits);
  Program record(const View& token, bool logits) const;

  std::shared_ptr<const Weights> weights_;
  std::unique_ptr<Device> device_;
  std::string name_;
  std::uint32_t slots_;
  LaunchShapes shapes_;
  SyncMode sync_;
  MemoryPlan plan_;
  ModelMemory memory_;
  std::optional<UnfusedBuffers> unfused_;
  std::unique_ptr<PersistentToken> persistent_;
  static constexpr std::uint32_t kPlaces = 2 * kAhead;
  View tokens_;  // uint [kPlaces]: what the queued tokens are
  // The same program for each place in tokens_, with logits and without.
  std::array<Program, kPlaces> programs_, silent_programs_;
  std::array<std::uint64_t, 2> in_flight_ = {};  // last submission that reads each half of tokens_
  std::uint32_t next_ = 0;                       // place of the next token
  std::uint64_t last_ = 0;                       // number of the last submission
  std::unique_ptr<GpuGenerator> generator_;
  std::unique_ptr<BatchRunner> batch_;
  std::unique_ptr<HeldStates> held_;
};

}  // namespace gander::gpu
