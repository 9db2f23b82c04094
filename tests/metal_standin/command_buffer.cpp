#include "tests/metal_standin/command_buffer.h"

#include "tests/metal_standin/command_queue.h"
#include "tests/metal_standin/compute_encoder.h"
#include "tests/metal_standin/counting.h"
#include "tests/metal_standin/execution.h"
#include "tests/metal_standin/scheduler.h"

#include <chrono>

namespace gander::standin {
namespace {

// Counted when a command buffer is committed, so that tests know which one fails.
std::optional<Failures> planned_failure() {
  Failures& planned = failures();
  if (planned.command == CommandFailure::None) return std::nullopt;
  if (planned.command_after > 0) {
    --planned.command_after;
    return std::nullopt;
  }
  const Failures due = planned;
  planned.command = CommandFailure::None;
  return due;
}

double now_in_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

thread_local bool calls_handlers = false;

}  // namespace

CommandBufferDescriptor::CommandBufferDescriptor() : Object(kClass) {}

CommandBuffer::CommandBuffer(Ref<CommandQueue> queue, bool retains, bool tells_encoders)
    : Labelled(kClass),
      queue_(std::move(queue)),
      retains_(retains),
      tells_encoders_(tells_encoders) {}

CommandBuffer::~CommandBuffer() {
  if (status_ < Status::Committed) queue_->abandoned(*this);
}

std::string CommandBuffer::description() const {
  return fmt::format("command buffer '{}'", label());
}

void CommandBuffer::keep(Object* object) {
  if (retains_) kept_.try_emplace(object, Ref<Object>(object));
}

void CommandBuffer::check_recording(std::string_view method) {
  if (encoder_is_open_) misuse("{}: {} before endEncoding", description(), method);
  if (status() >= Status::Committed) misuse("{}: {} after commit", description(), method);
}

Object* CommandBuffer::compute_encoder() {
  return compute_encoder_of(0);
}

Object* CommandBuffer::compute_encoder_of(UInteger dispatch_type) {
  if (dispatch_type > 1) {
    misuse("computeCommandEncoderWithDispatchType:{}: 0 is serial, 1 concurrent", dispatch_type);
  }
  check_recording("a new encoder");
  encoder_is_open_ = true;
  count(&Counters::encoders);
  return autoreleased(make<ComputeEncoder>(Ref<CommandBuffer>(this), dispatch_type == 1));
}

void CommandBuffer::end_encoder(Pass pass) {
  encoder_is_open_ = false;
  passes_.push_back(std::move(pass));
}

void CommandBuffer::add_completed_handler(const Block* block) {
  if (status() >= Status::Committed) {
    misuse("{}: addCompletedHandler: after commit", description());
  }
  completed_handlers_.emplace_back(block, "addCompletedHandler:");
}

void CommandBuffer::add_scheduled_handler(const Block* block) {
  if (status() >= Status::Committed) {
    misuse("{}: addScheduledHandler: after commit", description());
  }
  scheduled_handlers_.emplace_back(block, "addScheduledHandler:");
}

void CommandBuffer::enqueue() {
  misuse("{}: enqueue is not modelled: commit in the order of execution", description());
}

void CommandBuffer::check_alive() const {
  for (const Pass& pass : passes_) {
    for (const auto& batch : pass.batches) {
      for (const DispatchCommand& dispatch : batch) {
        bool alive = is_alive(dispatch.pipeline);
        for (const Binding& bound : dispatch.bindings) {
          alive = alive && (bound.buffer == nullptr || is_alive(bound.buffer));
        }
        if (!alive) {
          misuse(
              "{}, which does not retain what it refers to: a buffer or pipeline of it was "
              "released before it had run",
              description());
        }
      }
    }
  }
}

void CommandBuffer::commit() {
  check_recording("commit");
  check_alive();
  queue_->check_hazards(*this);
  queue_->committed(*this);
  planned_failure_ = planned_failure();
  set_status(Status::Committed);
  count(&Counters::command_buffers);
  Scheduler::shared().submit(Ref<CommandBuffer>(this));
}

void CommandBuffer::wait_until_completed() {
  std::unique_lock lock(mutex_);
  if (status_ < Status::Committed) misuse("{}: waitUntilCompleted before commit", description());
  if (handlers_called_) return;
  if (calls_handlers) {
    misuse("{}: waitUntilCompleted in a completion handler waits for ever", description());
  }
  if (Scheduler::shared().held()) misuse("{}: waits while execution is held", description());
  count(&Counters::waits);
  changed_.wait(lock, [this] { return handlers_called_; });
}

CommandBuffer::Status CommandBuffer::status() {
  std::lock_guard lock(mutex_);
  return status_;
}

void CommandBuffer::set_status(Status status) {
  std::lock_guard lock(mutex_);
  status_ = status;
}

double CommandBuffer::start_time() {
  std::lock_guard lock(mutex_);
  return start_time_;
}

double CommandBuffer::end_time() {
  std::lock_guard lock(mutex_);
  return end_time_;
}

bool CommandBuffer::failed() {
  return status() == Status::Error;
}

// Returns the pass in which the command buffer fails, or their number.
std::size_t CommandBuffer::run_passes() {
  for (std::size_t i = 0; i < passes_.size(); ++i) {
    for (const auto& batch : passes_[i].batches) {
      for (const DispatchCommand& dispatch : batch) {
        if (planned_failure_ && (planned_failure_->command_at.empty() ||
                                 planned_failure_->command_at == dispatch.pipeline->kernel())) {
          return i;
        }
      }
      run_batch(batch, passes_[i].label);
    }
  }
  return passes_.size();
}

void CommandBuffer::execute() {
  set_status(Status::Scheduled);
  for (const BlockRef& handler : scheduled_handlers_) handler.call(this);
  const double start = now_in_seconds();
  check_alive();
  const std::size_t failed_pass = victim_ ? 0 : run_passes();
  const bool fails = victim_ || planned_failure_.has_value();
  const Ref<Error> error = fails ? command_error(failed_pass) : Ref<Error>();
  std::lock_guard lock(mutex_);
  start_time_ = start;
  end_time_ = now_in_seconds();
  error_ = error;
  status_ = fails ? Status::Error : Status::Completed;
}

void CommandBuffer::call_handlers() {
  calls_handlers = true;
  queue_->finished(*this);
  void* pool = objc_autoreleasePoolPush();
  for (const BlockRef& handler : completed_handlers_) handler.call(this);
  completed_handlers_.clear();
  kept_.clear();
  objc_autoreleasePoolPop(pool);
  std::lock_guard lock(mutex_);
  handlers_called_ = true;
  changed_.notify_all();
}

Ref<Error> CommandBuffer::command_error(std::size_t failed_pass) const {
  struct Text {
    long code;
    const char* description;
  };
  const auto text = [&]() -> Text {
    if (victim_) {
      return {1,
              "Discarded (victim of GPU error/recovery) "
              "(00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)"};
    }
    switch (planned_failure_->command) {
      case CommandFailure::Timeout:
        return {2, "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"};
      case CommandFailure::PageFault:
        return {3,
                "Caused GPU Address Fault Error "
                "(0000000b:kIOGPUCommandBufferCallbackErrorPageFault)"};
      case CommandFailure::OutOfMemory:
        return {8, "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"};
      case CommandFailure::None:
        break;
    }
    return {1, "Internal Error"};
  }();
  std::map<std::string, Ref<Object>> details;
  if (tells_encoders_) {
    std::vector<Ref<Object>> infos;
    for (std::size_t i = 0; i < passes_.size(); ++i) {
      using State = EncoderInfo::State;
      const State state = victim_            ? State::Affected
                          : i < failed_pass  ? State::Completed
                          : i == failed_pass ? State::Faulted
                                             : State::Pending;
      infos.push_back(Ref<Object>::adopt(new EncoderInfo(passes_[i], state)));
    }
    details[kEncoderInfoKey] = Ref<Object>::adopt(new Array(std::move(infos)));
  }
  return make<Error>("MTLCommandBufferErrorDomain", text.code, text.description,
                     std::move(details));
}

EncoderInfo::EncoderInfo(const Pass& pass, State state)
    : Object(kClass), label_(string(pass.label)), state_(state) {
  std::vector<Ref<Object>> signposts;
  for (const std::string& name : pass.signposts) {
    signposts.push_back(Ref<Object>::adopt(new String(name)));
  }
  signposts_ = make<Array>(std::move(signposts));
}

const Class CommandBufferDescriptor::kClass{
    "MTLCommandBufferDescriptor",
    {method<&CommandBufferDescriptor::set_retained_references>("setRetainedReferences:"),
     method<&CommandBufferDescriptor::set_error_options>("setErrorOptions:")},
    {method<&allocate<CommandBufferDescriptor>>("alloc"),
     method<&allocate<CommandBufferDescriptor>>("new")}};

const Class CommandBuffer::kClass{
    "MTLCommandBuffer",
    {method<&CommandBuffer::set_label>("setLabel:"), method<&CommandBuffer::get_label>("label"),
     method<&CommandBuffer::compute_encoder>("computeCommandEncoder"),
     method<&CommandBuffer::compute_encoder_of>("computeCommandEncoderWithDispatchType:"),
     method<&CommandBuffer::add_completed_handler>("addCompletedHandler:"),
     method<&CommandBuffer::add_scheduled_handler>("addScheduledHandler:"),
     method<&CommandBuffer::enqueue>("enqueue"), method<&CommandBuffer::commit>("commit"),
     method<&CommandBuffer::wait_until_completed>("waitUntilCompleted"),
     method<&CommandBuffer::status>("status"), method<&CommandBuffer::error>("error"),
     method<&CommandBuffer::start_time>("GPUStartTime"),
     method<&CommandBuffer::end_time>("GPUEndTime"),
     method<&CommandBuffer::retained_references>("retainedReferences")}};

const Class EncoderInfo::kClass{
    "MTLCommandBufferEncoderInfo",
    {method<&EncoderInfo::label>("label"), method<&EncoderInfo::signposts>("debugSignposts"),
     method<&EncoderInfo::state>("errorState")}};

}  // namespace gander::standin

using gander::standin::Object;

extern "C" {

/// An NSString that Metal exports.
extern Object* const MTLCommandBufferEncoderInfoErrorKey;
Object* const MTLCommandBufferEncoderInfoErrorKey = [] {
  auto* key = new gander::standin::String(gander::standin::kEncoderInfoKey);
  key->live_for_ever();
  return key;
}();

}  // extern "C"
