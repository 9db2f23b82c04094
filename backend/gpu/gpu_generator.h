#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "backend/generator.h"
#include "backend/gpu/device_sampler.h"
#include "backend/gpu/layer_dispatcher.h"

namespace gander::gpu {

/// Records the program of the token that lies at `token`; without logits it leaves the state only.
using TokenRecorder = std::function<Program(const View& token, bool logits)>;

/// Generates on a Device: the program of a token ends with `sample`, whose choice the next one
/// begins with. A block is one submission, on Metal a token.
class GpuGenerator final : public Generator {
 public:
  /// Bytes it allocates: copies of the state, and what the sampler needs.
  static std::uint64_t plan_bytes(const Config& config, const DeviceInfo& info);

  /// All arguments but `record` outlive it.
  GpuGenerator(Device& device, const Config& config, const ModelMemory& memory,
               const TokenRecorder& record);

  bool supports(const SamplerSettings& settings) const override;
  void start(const SamplerSettings& settings, const SamplerMemory& memory) override;
  void queue(std::uint32_t count) override;
  void collect(std::span<TokenId> tokens) override;
  void read_block_state(State& state) override;
  void stop() override;

  /// The program of a token: embed, layers, head, sample.
  const Program& token_program() const { return slots_[0].token; }

 private:
  // What two blocks after each other do not share.
  struct Slot {
    View state;                    // before the block
    Program begin;                 // feeds the token before the block, saves the state, samples
    Program token;                 // feeds, samples
    std::uint64_t first = 0;       // number of the block's first token since start()
    std::uint64_t submission = 0;  // of its last token
  };

  Device& device_;
  std::uint32_t vocab_size_;
  DeviceSampler sampler_;
  std::array<Slot, kMaxQueued> slots_;
  std::uint64_t queued_ = 0, collected_ = 0;  // blocks since start()
  std::uint64_t tokens_ = 0;                  // queued since start()
  std::uint64_t last_ = 0;                    // submission
};

}  // namespace gander::gpu
