#include "backend/gpu/batch/batch_runner.h"

#include <algorithm>

#include "backend/gpu/recording_device.h"

namespace gander::gpu {
namespace {

template <typename Element>
void write(Device& device, const View& view, const std::vector<Element>& elements) {
  const auto bytes = std::as_bytes(std::span(elements));
  if (!bytes.empty()) device.write(view.part(0, bytes.size()), bytes);
}

}  // namespace

std::uint64_t BatchRunner::plan_bytes(const Config& config, std::uint32_t rows, std::uint32_t slots,
                                      const DeviceInfo& info) {
  RecordingDevice device(info);
  make_batch_buffers(config, std::max(rows, kLeastRows), slots, device);
  return device.allocated_bytes();
}

BatchRunner::BatchRunner(const Config& config, const ModelWeights& weights, bool tensor,
                         const StateBuffers& state, std::uint32_t rows, std::uint32_t slots,
                         Device& device)
    : config_(config),
      device_(device),
      recorder_(device, config_),
      memory_{&weights, tensor, state,
              make_batch_buffers(config, std::max(rows, kLeastRows), slots, device)} {
  rows_.reserve(memory_.buffers.rows);
  sequences_.reserve(memory_.buffers.rows);
  wanted_.reserve(memory_.buffers.logit_rows);
  sampled_.reserve(memory_.buffers.logit_rows);
}

const Program& BatchRunner::cached(const BatchShape& exact, std::size_t tables) {
  // No more than there is room for: groups may look at their row's entry of the tables first.
  const BatchBuffers& buffers = memory_.buffers;
  BatchShape shape = bucket_of(exact);
  shape.rows = std::min(shape.rows, buffers.rows);
  shape.sequences = std::min(shape.sequences, shape.rows);
  shape.logits = std::min(shape.logits, buffers.logit_rows);
  const auto found = std::ranges::find_if(cache_, [&](const Cached& cached) {
    return cached.shape == shape && cached.tables == tables;
  });
  if (found != cache_.end()) {
    cache_.splice(cache_.begin(), cache_, found);
    return cache_.front().program;
  }
  if (cache_.size() == kPrograms) {
    device_.wait(cache_.back().last);  // its dispatches must stay until they have run
    cache_.pop_back();
  }
  BatchDispatcher dispatcher(recorder_, memory_, memory_.buffers.tables[tables], shape);
  cache_.push_front({shape, tables, dispatcher.record()});
  return cache_.front().program;
}

void BatchRunner::add_rows(const SequenceStep& step, std::size_t begin, std::size_t count) {
  const auto first = static_cast<std::uint32_t>(rows_.size());
  sequences_.push_back({step.slot, first, static_cast<std::uint32_t>(count)});
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t token = begin + i;
    if (step.which == Logits::All ||
        (step.which == Logits::Last && token + 1 == step.tokens.size())) {
      wanted_.push_back(static_cast<std::uint32_t>(rows_.size()));
      sampled_.push_back(step.sampled ? step.slot : GANDER_NOT_SAMPLED);
      samples_ |= step.sampled;
    }
    rows_.push_back({step.tokens[token], step.slot, i == 0 ? 1U : 0U, i + 1 == count ? 1U : 0U});
  }
}

void BatchRunner::run_part(std::span<float>& logits, std::span<TokenId>& best) {
  if (rows_.empty()) return;
  const std::size_t turn = turn_;
  turn_ = 1 - turn_;
  device_.wait(in_flight_[turn]);
  const BatchTables& tables = memory_.buffers.tables[turn];
  const BatchShape exact = {static_cast<std::uint32_t>(rows_.size()),
                            static_cast<std::uint32_t>(sequences_.size()),
                            static_cast<std::uint32_t>(wanted_.size()),
                            !best.empty(),
                            samples_ && !best.empty(),
                            rows_.size() == sequences_.size()};
  const Program& program = cached(exact, turn);
  write(device_, tables.rows, rows_);
  write(device_, tables.sequences, sequences_);
  write(device_, tables.wanted, wanted_);
  if (exact.samples) write(device_, tables.sampled, sampled_);
  const std::array<std::uint32_t, 3> counts = {exact.rows, exact.sequences, exact.logits};
  device_.write(tables.counts, std::as_bytes(std::span(counts)));
  last_ = device_.submit(program.dispatches);
  in_flight_[turn] = last_;
  cache_.front().last = last_;

  const std::size_t count = wanted_.size();
  if (count > 0 && !(logits.empty() && best.empty())) device_.wait(last_);
  if (!logits.empty()) {
    const auto to = logits.first(count * config_.vocab_size);
    device_.read(memory_.buffers.logits.part(0, to.size_bytes()), std::as_writable_bytes(to));
    logits = logits.subspan(to.size());
  }
  if (!best.empty()) {
    const auto to = best.first(count);
    device_.read(memory_.buffers.best.part(0, to.size_bytes()), std::as_writable_bytes(to));
    best = best.subspan(count);
  }
  clear_rows();
}

void BatchRunner::clear_rows() {
  rows_.clear();
  sequences_.clear();
  wanted_.clear();
  sampled_.clear();
  samples_ = false;
}

bool BatchRunner::start_sampling(std::uint32_t slot, const SamplerSettings& settings,
                                 const SamplerMemory& memory) {
  if (!can_sample(settings, config_.vocab_size)) return false;
  memory_.buffers.samplers.start(device_, {.slot = slot}, settings, memory);
  return true;
}

std::uint64_t BatchRunner::step(std::span<const SequenceStep> steps, std::span<float> logits,
                                std::span<TokenId> best) {
  const BatchBuffers& buffers = memory_.buffers;
  clear_rows();  // a step that failed left its own
  for (const SequenceStep& step : steps) {
    std::size_t begin = 0;
    while (begin < step.tokens.size()) {
      std::size_t count = std::min(step.tokens.size() - begin, buffers.rows - rows_.size());
      const std::size_t room = buffers.logit_rows - wanted_.size();
      if (step.which == Logits::All) count = std::min(count, room);
      if (step.which == Logits::Last && room == 0) count = 0;
      if (count == 0) {
        run_part(logits, best);
        continue;
      }
      add_rows(step, begin, count);
      begin += count;
    }
  }
  run_part(logits, best);
  return last_;
}

}  // namespace gander::gpu
