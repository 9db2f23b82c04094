#include "backend/gpu/gpu_generator.h"

#include "backend/gpu/primitives.h"
#include "backend/gpu/recording_device.h"

namespace gander::gpu {
namespace {

View copy_of(const View& view, Device& device) {
  return {device.allocate(view.size, "state before a block"), 0, view.size};
}

}  // namespace

std::uint64_t GpuGenerator::plan_bytes(const Config& config, const DeviceInfo& info) {
  RecordingDevice device(info);
  const StateBuffers state = make_state_buffers(config, 1, false, device);
  const std::uint64_t state_bytes = device.allocated_bytes();
  const DeviceSampler sampler(device, config.vocab_size, {}, {}, {});
  for (std::uint32_t i = 0; i < kMaxQueued; ++i) copy_of(state.all, device);
  return device.allocated_bytes() - state_bytes;
}

GpuGenerator::GpuGenerator(Device& device, const Config& config, const ModelMemory& memory,
                           const TokenRecorder& record)
    : device_(device),
      vocab_size_(config.vocab_size),
      sampler_(device, config.vocab_size, memory.buffers.logits, memory.buffers.maxima,
               memory.buffers.token) {
  const Recorder recorder(device, config);
  for (std::uint32_t i = 0; i < kMaxQueued; ++i) {
    Slot& slot = slots_[i];
    slot.state = copy_of(memory.state.all, device);
    slot.token = record(memory.buffers.token, true);
    slot.begin = slot.token;
    Primitives(recorder, slot.begin, config.layers).blit(memory.state.all, slot.state);
    sampler_.record(slot.begin, recorder, i);
    sampler_.record(slot.token, recorder, i);
  }
}

bool GpuGenerator::supports(const SamplerSettings& settings) const {
  return can_sample(settings, vocab_size_);
}

void GpuGenerator::start(const SamplerSettings& settings, const SamplerMemory& memory) {
  device_.wait(last_);
  sampler_.start(settings, memory);
  queued_ = collected_ = tokens_ = 0;
}

void GpuGenerator::queue(std::uint32_t count) {
  Slot& slot = slots_[queued_ % kMaxQueued];
  std::span<const Dispatch> next = slot.begin.dispatches;
  // Before the first block there is no token to feed.
  if (queued_ == 0) next = next.last(2);
  for (std::uint32_t i = 1; i < count; ++i) {
    device_.queue(next);
    next = slot.token.dispatches;
  }
  last_ = device_.submit(next);
  slot.first = tokens_;
  slot.submission = last_;
  tokens_ += count;
  ++queued_;
}

void GpuGenerator::collect(std::span<TokenId> tokens) {
  const std::uint64_t number = collected_ % kMaxQueued;
  device_.wait(slots_[number].submission);
  sampler_.read(static_cast<std::uint32_t>(number), slots_[number].first, tokens);
  ++collected_;
}

void GpuGenerator::read_block_state(State& state) {
  const Slot& slot = slots_[(collected_ - 1) % kMaxQueued];
  device_.read(slot.state, std::as_writable_bytes(state.values()));
}

void GpuGenerator::stop() {
  device_.wait(last_);
}

}  // namespace gander::gpu
