#include "backend/gpu/gpu_backend.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "backend/gpu/recording_device.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/function_constants.h"

namespace gander::gpu {

MemoryPlan plan_memory(const Weights& weights, const LaunchShapes& shapes, const DeviceInfo& info,
                       std::uint32_t slots, bool half_states) {
  MemoryPlan plan;
  plan.weights = plan_weights(weights, info);
  RecordingDevice state(info);
  make_state_buffers(weights.config, slots, half_states, state);
  plan.state_bytes = state.allocated_bytes();
  RecordingDevice activations(info);
  make_layer_buffers(weights.config, shapes.value_slices,
                     groups_for(weights.config.vocab_size, shapes.head), activations);
  plan.activation_bytes = activations.allocated_bytes();
  return plan;
}

void check_memory(const MemoryPlan& plan, const DeviceInfo& info) {
  const std::string needs =
      fmt::format("this model needs {} (weights {}, state {}, activations {})",
                  bytes_text(plan.total()), bytes_text(plan.weights.total()),
                  bytes_text(plan.state_bytes), bytes_text(plan.activation_bytes));
  if (info.working_set_bytes > 0 && plan.total() > info.working_set_bytes) {
    fail(
        "{} can keep {} resident, and {}: take a smaller or more strongly quantised model, or "
        "--backend cpu",
        info.name, bytes_text(info.working_set_bytes), needs);
  }
  if (info.free_bytes > 0 && plan.total() > info.free_bytes) {
    fail(
        "{} has {} of {} free, and {}: close other programs that use it, or take a smaller or more "
        "strongly quantised model",
        info.name, bytes_text(info.free_bytes), bytes_text(info.working_set_bytes), needs);
  }
}

ModelMemory place_model(const Weights& weights, const WeightPlan& plan, const LaunchShapes& shapes,
                        Device& device, std::uint32_t slots, bool half_states) {
  const Config& config = weights.config;
  return {place_weights(weights, plan, device),
          make_layer_buffers(config, shapes.value_slices,
                             groups_for(config.vocab_size, shapes.head), device),
          make_state_buffers(config, slots, half_states, device)};
}

GpuBackend::GpuBackend(std::shared_ptr<const Weights> weights, std::unique_ptr<Device> device,
                       const GpuOptions& options)
    : weights_(std::move(weights)),
      device_(std::move(device)),
      name_(options.name),
      slots_(options.slots),
      shapes_(options.shapes != nullptr ? *options.shapes
                                        : default_shapes(weights_->config, device_->info())),
      sync_(options.sync) {
  const Config& config = weights_->config;
  if (config.head_size > GANDER_MAX_HEAD_SIZE) {
    fail("heads of {} channels: GPUs take up to {}, use --backend cpu", config.head_size,
         GANDER_MAX_HEAD_SIZE);
  }
  plan_ = plan_memory(*weights_, shapes_, device_->info(), slots_, options.half_states);
  const bool generates = sync_ == SyncMode::Async && !options.unfused;
  const bool token_kernel = runs_token_kernel(options);
  const bool batches =
      generates && options.batch_rows > 0 && has_tiles(token_kernel, device_->info());
  if (!batches && (slots_ != 1 || options.half_states)) {
    fail(
        "{} run as batches: not with --unfused or --sync, nor on NVIDIA GPUs of less than 130 KB "
        "of shared memory",
        slots_ != 1 ? fmt::format("{} sequences at once", slots_) : "16-bit states");
  }
  if (batches) {
    plan_.activation_bytes +=
        BatchRunner::plan_bytes(config, options.batch_rows, slots_, device_->info());
  }
  if (options.unfused) plan_.activation_bytes += unfused_bytes(config, device_->info());
  const bool runs_tokens = !options.half_states;
  const bool samples = generates && runs_tokens;
  if (samples) plan_.state_bytes += GpuGenerator::plan_bytes(config, device_->info());
  const std::uint32_t held = held_that_fit(options.half_states);
  place(options, token_kernel, slots_ + held);
  if (held > 0) held_ = std::make_unique<HeldStates>(*device_, memory_.state, slots_, held);
  if (runs_tokens) record_tokens();
  if (samples) {
    generator_ = std::make_unique<GpuGenerator>(
        *device_, config, memory_,
        [this](const View& token, bool logits) { return record(token, logits); });
  }
  if (batches) {
    batch_ = std::make_unique<BatchRunner>(config, memory_.weights, persistent_ != nullptr,
                                           memory_.state, options.batch_rows, slots_, *device_);
  }
  if (persistent_) {
    persistent_->upload(options.progress);
  } else {
    upload_weights(*weights_, memory_.weights, *device_, options.progress);
  }
}

// An operation, or a layer, can be waited for only when it is a dispatch.
bool GpuBackend::runs_token_kernel(const GpuOptions& options) const {
  const bool whole = sync_ == SyncMode::Async || sync_ == SyncMode::Token;
  return options.persistent && whole && !options.unfused &&
         PersistentToken::supports(*weights_, device_->info());
}

void GpuBackend::record_tokens() {
  tokens_ = {device_->allocate(kPlaces * sizeof(TokenId), "tokens"), 0, kPlaces * sizeof(TokenId)};
  for (std::uint32_t place = 0; place < kPlaces; ++place) {
    const View token = tokens_.part(place * sizeof(TokenId), sizeof(TokenId));
    programs_[place] = record(token, true);
    silent_programs_[place] = record(token, false);
  }
}

/// States that an engine's sequences leave behind and go back to: not more than the sequences, nor
/// more than a gigabyte or half of what is free.
std::uint32_t GpuBackend::held_that_fit(bool half_states) const {
  const DeviceInfo& info = device_->info();
  if (slots_ == 1 || !info.transfers_aside) return 0;
  std::uint64_t most = std::uint64_t{1} << 30;
  if (info.free_bytes > 0) {
    most = std::min(most, (info.free_bytes - std::min(info.free_bytes, plan_.total())) / 2);
  }
  const std::uint64_t bytes = state_bytes(config(), half_states);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(slots_, most / bytes));
}

void GpuBackend::place(const GpuOptions& options, bool token_kernel, std::uint32_t slots) {
  const DeviceInfo& info = device_->info();
  plan_.state_bytes += (slots - slots_) * state_bytes(config(), options.half_states);
  if (token_kernel) {
    persistent_ =
        std::make_unique<PersistentToken>(*weights_, slots, options.half_states, *device_);
    plan_.weights = {};
    plan_.weights.copied_bytes = persistent_->bytes();
    check_memory(plan_, info);
    persistent_->place();
    memory_ = persistent_->memory();
    return;
  }
  check_memory(plan_, info);
  memory_ = place_model(*weights_, plan_.weights, shapes_, *device_, slots, options.half_states);
  if (options.unfused) unfused_ = make_unfused_buffers(config(), *device_);
}

Program GpuBackend::record(const View& token, bool logits) const {
  if (persistent_) return persistent_->record(token, logits);
  Program program =
      unfused_ ? record_unfused_token(config(), memory_, *unfused_, shapes_, *device_, token)
               : record_token(config(), memory_, shapes_, *device_, token);
  if (!logits) program.dispatches.pop_back();  // the head comes last
  return program;
}

std::string GpuBackend::description() const {
  return fmt::format("{} ({})", name_, device_->info().name);
}

void GpuBackend::forward(std::span<const TokenId> tokens, Logits which, std::span<float> logits) {
  if (memory_.state.half) {
    const SequenceStep all = {0, tokens, which};
    last_ = batch_->step({&all, 1}, logits, {});
    return;
  }
  if (batch_ && tokens.size() >= kBatchFrom) {
    // What generates on the device goes on from the last token's logits: that one is a token's.
    const std::size_t last = which == Logits::None ? 0 : 1;
    const SequenceStep prompt = {0, tokens.first(tokens.size() - last),
                                 which == Logits::All ? Logits::All : Logits::None};
    last_ = batch_->step({&prompt, 1}, logits, {});
    tokens = tokens.last(last);
    if (which == Logits::All) {
      logits = logits.subspan(prompt.tokens.size() * config().vocab_size);
    }
  }
  one_by_one(tokens, which, logits);
}

void GpuBackend::step(std::span<const SequenceStep> steps, std::span<float> logits,
                      std::span<TokenId> best) {
  if (batch_) {
    last_ = batch_->step(steps, logits, best);
    return;
  }
  step_by_sequence(steps, config().vocab_size, logits, best,
                   [this](const SequenceStep& step, std::span<float> out) {
                     one_by_one(step.tokens, step.which, out);
                   });
}

std::span<const std::uint32_t> GpuBackend::telling_lengths() const {
  if (!batch_) return {};
  return gpu::telling_lengths(persistent_ != nullptr);
}

void GpuBackend::one_by_one(std::span<const TokenId> tokens, Logits which,
                            std::span<float> logits) {
  const std::size_t vocabulary = config().vocab_size;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool wanted = which == Logits::All || (which == Logits::Last && i + 1 == tokens.size());
    // A half of the places is free once the tokens that were there have been read.
    if (next_ % kAhead == 0) device_->wait(in_flight_[next_ / kAhead]);
    device_->write(tokens_.part(next_ * sizeof(TokenId), sizeof(TokenId)),
                   std::as_bytes(tokens.subspan(i, 1)));
    const Program& program = wanted ? programs_[next_] : silent_programs_[next_];
    last_ = run(*device_, program.dispatches, sync_);
    in_flight_[next_ / kAhead] = last_;
    next_ = (next_ + 1) % kPlaces;
    if (!wanted) continue;
    finish();
    device_->read(memory_.buffers.logits, std::as_writable_bytes(logits.first(vocabulary)));
    logits = logits.subspan(vocabulary);
  }
}

bool GpuBackend::start_sampling(std::uint32_t slot, const SamplerSettings& settings,
                                const SamplerMemory& memory) {
  if (!batch_) return false;
  finish();
  return batch_->start_sampling(slot, settings, memory);
}

void GpuBackend::read_state(State& state, std::uint32_t slot) const {
  finish();
  const auto read = [this](const View& view, std::span<std::byte> bytes) {
    device_->read(view, bytes);
  };
  read_slot(memory_.state, slot, read, state);
}

void GpuBackend::write_state(const State& state, std::uint32_t slot) {
  finish();
  const auto write = [this](const View& view, std::span<const std::byte> bytes) {
    device_->write(view, bytes);
  };
  write_slot(memory_.state, slot, write, state);
}

void GpuBackend::reset(std::uint32_t slot) {
  finish();
  device_->clear(memory_.state.slot(slot));
}

std::unique_ptr<HeldState> GpuBackend::hold_state(std::uint32_t slot) {
  return held_ ? held_->hold(slot) : nullptr;
}

std::unique_ptr<HeldState> GpuBackend::bring_state(const State& state) {
  return held_ ? held_->bring(state) : nullptr;
}

}  // namespace gander::gpu
