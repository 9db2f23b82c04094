#include "tests/metal_standin/block.h"

#include <cstdlib>
#include <cstring>

namespace gander::standin {
namespace {

std::atomic<int> heap_blocks{0};

// The count of references is in the low bits of the flags, in steps of two.
constexpr int kOneReference = 2;

std::atomic_ref<int> flags_of(const Block* block) {
  return std::atomic_ref<int>(const_cast<Block*>(block)->flags);
}

}  // namespace

BlockRef::BlockRef(const Block* block, std::string_view method) : block_(nullptr) {
  if (block == nullptr) misuse("{}: the block is nil", method);
  if (block->isa != _NSConcreteGlobalBlock && block->isa != _NSConcreteStackBlock &&
      block->isa != _NSConcreteMallocBlock) {
    misuse("{}: the argument is no block", method);
  }
  if (block->descriptor == nullptr || block->descriptor->size < sizeof(Block)) {
    misuse("{}: the block's descriptor lacks its size", method);
  }
  block_ = static_cast<Block*>(_Block_copy(block));
}

BlockRef::~BlockRef() {
  if (block_ != nullptr) _Block_release(block_);
}

GANDER_CALLS_BLOCKS void BlockRef::call(void* pages, UInteger length) const {
  using Deallocator = void (*)(Block*, void*, UInteger);
  reinterpret_cast<Deallocator>(reinterpret_cast<void (*)()>(block_->invoke))(block_, pages,
                                                                              length);
}

int live_blocks() {
  return heap_blocks;
}

}  // namespace gander::standin

using gander::standin::Block;

extern "C" {

void* _NSConcreteGlobalBlock[32];
void* _NSConcreteStackBlock[32];
void* _NSConcreteMallocBlock[32];

GANDER_CALLS_BLOCKS void* _Block_copy(const void* address) {
  const auto* block = static_cast<const Block*>(address);
  const int flags = gander::standin::flags_of(block).load();
  if ((flags & Block::kIsGlobal) != 0) return const_cast<void*>(address);
  if ((flags & Block::kNeedsFree) != 0) {
    gander::standin::flags_of(block) += gander::standin::kOneReference;
    return const_cast<void*>(address);
  }
  auto* copy = static_cast<Block*>(std::malloc(block->descriptor->size));
  std::memcpy(copy, block, block->descriptor->size);
  copy->isa = _NSConcreteMallocBlock;
  copy->flags = (flags & ~Block::kCountMask) | Block::kNeedsFree | gander::standin::kOneReference;
  if ((flags & Block::kHasCopyDispose) != 0) block->descriptor->copy(copy, block);
  ++gander::standin::heap_blocks;
  return copy;
}

GANDER_CALLS_BLOCKS void _Block_release(const void* address) {
  const auto* block = static_cast<const Block*>(address);
  if ((gander::standin::flags_of(block).load() & Block::kNeedsFree) == 0) return;
  const int left = gander::standin::flags_of(block) -= gander::standin::kOneReference;
  if ((left & Block::kCountMask) != 0) return;
  if ((left & Block::kHasCopyDispose) != 0) block->descriptor->dispose(block);
  std::free(const_cast<void*>(address));
  --gander::standin::heap_blocks;
}

}  // extern "C"
