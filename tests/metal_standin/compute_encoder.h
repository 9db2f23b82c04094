#pragma once

#include "tests/metal_standin/commands.h"

namespace gander::standin {

class CommandBuffer;

/// id<MTLComputeCommandEncoder>
class ComputeEncoder : public Labelled {
 public:
  ComputeEncoder(Ref<CommandBuffer> command_buffer, bool concurrent);
  ~ComputeEncoder() override;

 private:
  void set_pipeline(Pipeline* pipeline);
  void set_buffer(Buffer* buffer, UInteger offset, UInteger index);
  void set_buffer_offset(UInteger offset, UInteger index);
  void set_bytes(const void* bytes, UInteger length, UInteger index);
  void set_group_memory(UInteger length, UInteger index);
  void dispatch(Size groups, Size threads);
  void barrier(UInteger scope);
  void wait_for(Fence* fence);
  void update(Fence* fence);
  void use_resource(Buffer* buffer, UInteger usage);
  void push_debug_group(String* name);
  void pop_debug_group();
  void insert_signpost(String* name);
  void end();

  void check_open(std::string_view method) const;
  void check_bindings() const;
  void check_group(Size groups, Size threads) const;
  Binding& binding(UInteger index, std::string_view method);
  static const Class kClass;

  Ref<CommandBuffer> command_buffer_;
  bool concurrent_;
  bool ended_ = false;
  bool batch_is_open_ = false;  ///< no barrier since the last dispatch
  Pipeline* pipeline_ = nullptr;
  std::vector<Binding> bindings_;
  std::vector<UInteger> group_memory_;
  int debug_groups_ = 0;
  Pass pass_;
};

}  // namespace gander::standin
