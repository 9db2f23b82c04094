#pragma once

#include "tests/metal_standin/buffer.h"

#include <set>

namespace gander::standin {

/// MTLResidencySetDescriptor (macOS 15)
class ResidencySetDescriptor : public Labelled {
 public:
  ResidencySetDescriptor();

 private:
  void set_initial_capacity(UInteger) {}
  static const Class kClass;
};

/// id<MTLResidencySet>: buffers that stay where the GPU reaches them. Changes count once committed.
class ResidencySet : public Labelled {
 public:
  explicit ResidencySet(Ref<Device> device);
  ~ResidencySet() override;

  bool committed() const { return !changed_; }
  bool contains(const Buffer* buffer) const;

 private:
  void add(Buffer* buffer);
  void add_all(Buffer* const* buffers, UInteger count);
  void remove(Buffer* buffer);
  void remove_all();
  void commit();
  void request_residency();
  void end_residency();
  UInteger allocation_count() { return pending_.size(); }
  UInteger allocated_size();
  bool contains_allocation(Buffer* buffer);
  static const Class kClass;

  Ref<Device> device_;
  std::map<Buffer*, Ref<Buffer>> pending_, resident_;
  bool changed_ = false;
  bool requested_ = false;
  UInteger requested_bytes_ = 0;
};

}  // namespace gander::standin
