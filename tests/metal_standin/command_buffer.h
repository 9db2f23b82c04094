#pragma once

#include "tests/metal_standin/commands.h"
#include "tests/metal_standin/standin.h"

#include <condition_variable>
#include <mutex>
#include <optional>

namespace gander::standin {

class CommandQueue;
class ComputeEncoder;

inline constexpr char kEncoderInfoKey[] = "MTLCommandBufferEncoderInfoErrorKey";

/// MTLCommandBufferDescriptor
class CommandBufferDescriptor : public Object {
 public:
  CommandBufferDescriptor();
  bool retained_references() const { return retained_references_; }
  UInteger error_options() const { return error_options_; }

 private:
  void set_retained_references(bool retained) { retained_references_ = retained; }
  void set_error_options(UInteger options) { error_options_ = options; }
  static const Class kClass;

  bool retained_references_ = true;
  UInteger error_options_ = 0;
};

/// id<MTLCommandBuffer>
class CommandBuffer : public Labelled {
 public:
  enum class Status : UInteger { NotEnqueued, Enqueued, Committed, Scheduled, Completed, Error };

  CommandBuffer(Ref<CommandQueue> queue, bool retains, bool tells_encoders);
  ~CommandBuffer() override;

  /// Holds an object that a command needs, unless references are unretained.
  void keep(Object* object);
  void end_encoder(Pass pass);
  const std::vector<Pass>& passes() const { return passes_; }
  std::string description() const;

  // What follows is called by the scheduler.

  /// Runs the commands, or fails on the way as planned.
  void execute();
  bool failed();
  /// Will fail because one before it did while this one was waiting.
  void become_victim() { victim_ = true; }
  /// Calls the completion handlers, then lets those who wait go on.
  void call_handlers();

 private:
  Object* compute_encoder();
  Object* compute_encoder_of(UInteger dispatch_type);
  void add_completed_handler(const Block* block);
  void add_scheduled_handler(const Block* block);
  void enqueue();
  void commit();
  void wait_until_completed();
  Status status();
  Error* error() { return error_.get(); }
  double start_time();
  double end_time();
  bool retained_references() { return retains_; }

  void check_recording(std::string_view method);
  void check_alive() const;
  std::size_t run_passes();
  Ref<Error> command_error(std::size_t failed_pass) const;
  void set_status(Status status);
  static const Class kClass;

  Ref<CommandQueue> queue_;
  const bool retains_, tells_encoders_;
  bool encoder_is_open_ = false;
  std::vector<Pass> passes_;
  std::map<Object*, Ref<Object>> kept_;
  std::vector<BlockRef> scheduled_handlers_, completed_handlers_;
  std::optional<Failures> planned_failure_;
  bool victim_ = false;

  std::mutex mutex_;  ///< of what follows
  std::condition_variable changed_;
  Status status_ = Status::NotEnqueued;
  bool handlers_called_ = false;
  Ref<Error> error_;
  double start_time_ = 0, end_time_ = 0;
};

/// MTLCommandBufferEncoderInfo: how far an encoder of a failed command buffer came.
class EncoderInfo : public Object {
 public:
  enum class State : long { Unknown, Completed, Affected, Pending, Faulted };

  EncoderInfo(const Pass& pass, State state);

 private:
  String* label() { return label_.get(); }
  Array* signposts() { return signposts_.get(); }
  State state() { return state_; }
  static const Class kClass;

  Ref<String> label_;
  Ref<Array> signposts_;
  State state_;
};

}  // namespace gander::standin
