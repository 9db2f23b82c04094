#pragma once

#include "tests/metal_standin/foundation.h"

namespace gander::standin {

struct Size {  // MTLSize
  UInteger width, height, depth;

  UInteger count() const { return width * height * depth; }
};

/// id<MTLDevice>. What it makes keeps it alive.
class Device : public Object {
 public:
  Device();

  /// Bytes of all buffers that live.
  std::atomic<std::uint64_t> allocated_bytes{0};

 private:
  String* name();
  UInteger registry_id() { return 0x67616e64; }
  bool has_unified_memory();
  bool supports_family(long family);
  UInteger max_buffer_length();
  UInteger max_threadgroup_memory_length();
  Size max_threads_per_threadgroup();
  UInteger recommended_max_working_set_size();
  UInteger current_allocated_size() { return allocated_bytes; }

  Object* new_command_queue();
  Object* new_command_queue_of(UInteger max_command_buffers);
  Object* new_fence();
  Object* new_buffer(UInteger length, UInteger options);
  Object* new_buffer_with(const void* bytes, UInteger length, UInteger options);
  Object* new_buffer_over(void* pages, UInteger length, UInteger options, const void* deallocator);
  Object* new_library(String* source, Object* options, Error** error);
  Object* new_pipeline(Object* function, Error** error);
  Object* new_pipeline_described(Object* descriptor, UInteger options, Object** reflection,
                                 Error** error);
  Object* new_binary_archive(Object* descriptor, Error** error);
  Object* new_residency_set(Object* descriptor, Error** error);
  static const Class kClass;
};

}  // namespace gander::standin
