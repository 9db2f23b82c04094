#include "tests/metal_standin/residency_set.h"

#include "tests/metal_standin/standin.h"

namespace gander::standin {
namespace {

std::atomic<std::uint64_t> resident = 0;

}  // namespace

std::uint64_t resident_bytes() {
  return resident;
}

ResidencySetDescriptor::ResidencySetDescriptor() : Labelled(kClass) {}

ResidencySet::ResidencySet(Ref<Device> device) : Labelled(kClass), device_(std::move(device)) {}

ResidencySet::~ResidencySet() {
  if (requested_) {
    misuse("residency set '{}' was released with its residency requested: call endResidency first",
           label());
  }
}

bool ResidencySet::contains(const Buffer* buffer) const {
  return resident_.contains(const_cast<Buffer*>(buffer));
}

void ResidencySet::add(Buffer* buffer) {
  if (buffer == nullptr) misuse("-[MTLResidencySet addAllocation:] with nil");
  pending_[buffer] = Ref<Buffer>(buffer);
  changed_ = true;
}

void ResidencySet::add_all(Buffer* const* buffers, UInteger count) {
  for (UInteger i = 0; i < count; ++i) add(buffers[i]);
}

void ResidencySet::remove(Buffer* buffer) {
  pending_.erase(buffer);
  changed_ = true;
}

void ResidencySet::remove_all() {
  pending_.clear();
  changed_ = true;
}

void ResidencySet::commit() {
  resident_ = pending_;
  changed_ = false;
}

void ResidencySet::request_residency() {
  if (changed_) {
    misuse("residency set '{}': requestResidency before commit of what was added", label());
  }
  requested_ = true;
  resident -= requested_bytes_;
  requested_bytes_ = allocated_size();
  resident += requested_bytes_;
}

void ResidencySet::end_residency() {
  requested_ = false;
  resident -= requested_bytes_;
  requested_bytes_ = 0;
}

UInteger ResidencySet::allocated_size() {
  UInteger bytes = 0;
  for (const auto& [address, buffer] : resident_) bytes += buffer->length();
  return bytes;
}

bool ResidencySet::contains_allocation(Buffer* buffer) {
  return contains(buffer);
}

const Class ResidencySetDescriptor::kClass{
    "MTLResidencySetDescriptor",
    {method<&ResidencySetDescriptor::set_label>("setLabel:"),
     method<&ResidencySetDescriptor::get_label>("label"),
     method<&ResidencySetDescriptor::set_initial_capacity>("setInitialCapacity:")},
    {method<&allocate<ResidencySetDescriptor>>("alloc"),
     method<&allocate<ResidencySetDescriptor>>("new")},
    15};

const Class ResidencySet::kClass{
    "MTLResidencySet",
    {method<&ResidencySet::get_label>("label"), method<&ResidencySet::add>("addAllocation:"),
     method<&ResidencySet::add_all>("addAllocations:count:"),
     method<&ResidencySet::remove>("removeAllocation:"),
     method<&ResidencySet::remove_all>("removeAllAllocations"),
     method<&ResidencySet::commit>("commit"),
     method<&ResidencySet::request_residency>("requestResidency"),
     method<&ResidencySet::end_residency>("endResidency"),
     method<&ResidencySet::allocation_count>("allocationCount"),
     method<&ResidencySet::allocated_size>("allocatedSize"),
     method<&ResidencySet::contains_allocation>("containsAllocation:")}};

}  // namespace gander::standin
