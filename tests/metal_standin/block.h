#pragma once

#include "tests/metal_standin/objc_runtime.h"

// A block's functions are called as the ABI's types, not those that they were defined with.
#if defined(__clang__)
#define GANDER_CALLS_BLOCKS __attribute__((no_sanitize("function")))
#else
#define GANDER_CALLS_BLOCKS
#endif

// Blocks, by the ABI that clang documents ("Block Implementation Specification").
namespace gander::standin {

struct BlockDescriptor {
  UInteger reserved;
  UInteger size;  ///< of the whole block, with what it captures
  void (*copy)(void* to, const void* from);
  void (*dispose)(const void* block);
};

struct Block {
  enum : int {
    kCountMask = 0xffff,
    kNeedsFree = 1 << 24,
    kHasCopyDispose = 1 << 25,
    kIsGlobal = 1 << 28
  };

  void* isa;  ///< _NSConcreteGlobalBlock, _NSConcreteStackBlock or _NSConcreteMallocBlock
  int flags;
  int reserved;
  void (*invoke)(Block*, void*);
  const BlockDescriptor* descriptor;
};

/// A reference to a block as a method keeps one: copied to the heap unless it is global.
class BlockRef {
 public:
  /// `method` is named when the block is malformed.
  BlockRef(const Block* block, std::string_view method);
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef&&) = delete;
  ~BlockRef();

  GANDER_CALLS_BLOCKS void call(Object* argument) const { block_->invoke(block_, argument); }
  /// A deallocator's arguments: what the buffer was made over.
  void call(void* pages, UInteger length) const;

 private:
  Block* block_;
};

/// Copies of blocks that nobody has released.
int live_blocks();

}  // namespace gander::standin

extern "C" {
extern void* _NSConcreteGlobalBlock[32];
extern void* _NSConcreteStackBlock[32];
extern void* _NSConcreteMallocBlock[32];
void* _Block_copy(const void* block);
void _Block_release(const void* block);
}
