#pragma once

#include "tests/metal_standin/block.h"
#include "tests/metal_standin/device.h"
#include "tests/metal_standin/guarded_memory.h"

#include <optional>

namespace gander::standin {

/// Anything with a label that profilers show.
class Labelled : public Object {
 public:
  using Object::Object;

  std::string label() const { return text_of(label_.get()); }
  void set_label(String* label) { label_ = label; }
  String* get_label() { return label_.get(); }

 private:
  Ref<String> label_;
};

/// id<MTLBuffer>
class Buffer : public Labelled {
 public:
  /// New memory, of zeros.
  Buffer(Ref<Device> device, UInteger length, UInteger options);
  /// Over pages of the caller's; `deallocator`, where there is one, is called when it goes.
  Buffer(Ref<Device> device, void* pages, UInteger length, UInteger options,
         const Block* deallocator);
  ~Buffer() override;

  std::byte* data() const { return data_; }
  UInteger length() const { return length_; }
  /// Metal orders the encoders that use it, unless it was made untracked.
  bool tracked() const;
  /// For messages: its label and size.
  std::string description() const;
  /// Ends the program when something was written outside of the buffer.
  void check_surroundings(std::string_view kernel) const;

 private:
  void* contents();
  UInteger get_length() { return length_; }
  UInteger resource_options() { return options_; }
  UInteger gpu_address() { return reinterpret_cast<UInteger>(data_); }
  UInteger set_purgeable_state(UInteger state);
  static const Class kClass;

  Ref<Device> device_;
  std::optional<GuardedMemory> memory_;
  std::byte* data_ = nullptr;
  UInteger length_, options_;
  std::optional<BlockRef> deallocator_;
};

}  // namespace gander::standin
