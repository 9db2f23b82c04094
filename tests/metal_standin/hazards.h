#pragma once

#include "tests/metal_standin/commands.h"

#include <map>
#include <set>

namespace gander::standin {

/// Finds passes that may overlap although they touch the same buffer. Command buffers of a queue
/// begin in order, but a pass may begin before those ahead of it end: Metal orders them where they
/// share a tracked buffer; for untracked ones fences must, or the CPU, by waiting.
class HazardTracker {
 public:
  using Owner = const void*;  ///< a command buffer

  /// A pass is committed. Ends the program when it is not ordered after one that it conflicts with.
  void add(Owner owner, const Pass& pass);
  /// The CPU has seen that all passes of the command buffer have run.
  void completed(Owner owner);

 private:
  using Number = std::uint64_t;  // of a pass, in the queue's order
  struct PassState {
    Owner owner;
    std::string name;
    std::set<Number> after;  // those it is known to run after
  };
  struct BufferState {
    Number writer = 0;  // 0: none
    std::set<Number> readers;
  };

  void order_after(PassState& pass, Number earlier) const;
  void require_order(PassState& pass, const Buffer& buffer, Number earlier) const;

  Number next_ = 1;
  std::map<Number, PassState> passes_;  // not known to be complete
  std::map<const Buffer*, BufferState> buffers_;
  std::map<const Fence*, Number> fences_;
};

}  // namespace gander::standin
