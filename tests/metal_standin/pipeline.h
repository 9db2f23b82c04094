#pragma once

#include "tests/metal_standin/library.h"

#include <set>

namespace gander::standin {

class BinaryArchive;

/// MTLComputePipelineDescriptor
class PipelineDescriptor : public Labelled {
 public:
  PipelineDescriptor();

  Function* function() const { return function_.get(); }
  bool whole_simd_groups() const { return whole_simd_groups_; }
  std::vector<BinaryArchive*> archives() const;

 private:
  void set_function(Function* function) { function_ = function; }
  void set_whole_simd_groups(bool whole) { whole_simd_groups_ = whole; }
  void set_archives(Array* archives) { archives_ = archives; }
  static const Class kClass;

  Ref<Function> function_;
  bool whole_simd_groups_ = false;  ///< thread groups are multiples of 32 threads
  Ref<Array> archives_;
};

/// id<MTLComputePipelineState>
class Pipeline : public Labelled {
 public:
  Pipeline(Ref<Device> device, Ref<Function> function, bool whole_simd_groups);

  const Function& function() const { return *function_; }
  std::string kernel() const { return function_->name(); }
  bool whole_simd_groups() const { return whole_simd_groups_; }
  UInteger max_threads();

 private:
  UInteger execution_width() { return 32; }
  UInteger static_group_memory() { return 0; }
  static const Class kClass;

  Ref<Device> device_;
  Ref<Function> function_;
  bool whole_simd_groups_;
};

/// MTLBinaryArchiveDescriptor
class BinaryArchiveDescriptor : public Object {
 public:
  BinaryArchiveDescriptor();
  Url* url() const { return url_.get(); }

 private:
  void set_url(Url* url) { url_ = url; }
  static const Class kClass;

  Ref<Url> url_;
};

/// id<MTLBinaryArchive>: compiled kernels in a file, here only their names and constants.
class BinaryArchive : public Labelled {
 public:
  BinaryArchive(Ref<Device> device, std::set<std::string> entries);

  bool has(const Function& function) const;

 private:
  bool add(PipelineDescriptor* descriptor, Error** error);
  bool serialize(Url* url, Error** error);
  static const Class kClass;

  Ref<Device> device_;
  std::set<std::string> entries_;
};

Object* make_pipeline(Ref<Device> device, PipelineDescriptor* descriptor, UInteger options,
                      Error** error);
Object* make_pipeline(Ref<Device> device, Function* function, Error** error);
Object* open_archive(Ref<Device> device, BinaryArchiveDescriptor* descriptor, Error** error);

}  // namespace gander::standin
