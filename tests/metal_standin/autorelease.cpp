#include "tests/metal_standin/objc_runtime.h"

// Autorelease pools: a stack of them for each thread. What is autoreleased with no pool in place
// would never be released, so it is an error here.
namespace gander::standin {
namespace {

struct Pools {
  std::vector<std::vector<Object*>> stack;

  ~Pools() {
    if (!stack.empty()) misuse("a thread ends with {} autorelease pools in place", stack.size());
  }
};
thread_local Pools pools;

void* push() {
  pools.stack.emplace_back();
  return reinterpret_cast<void*>(pools.stack.size());
}

// Pools pushed after `token` and not popped go with it, as in Apple's runtime.
void pop(void* token) {
  const auto depth = reinterpret_cast<std::uintptr_t>(token);
  if (depth == 0 || depth > pools.stack.size()) {
    misuse("an autorelease pool was popped that is not in place on this thread");
  }
  while (pools.stack.size() >= depth) {
    // Releasing may autorelease again, into the same pool.
    while (!pools.stack.back().empty()) {
      Object* object = pools.stack.back().back();
      pools.stack.back().pop_back();
      object->release();
    }
    pools.stack.pop_back();
  }
}

extern const Class pool_class;

class AutoreleasePool : public Object {
 public:
  AutoreleasePool() : Object(pool_class), token_(push()) {}
  ~AutoreleasePool() override { pop(token_); }
  void drain() { release(); }

 private:
  void* token_;
};

const Class pool_class{
    "NSAutoreleasePool",
    {method<&AutoreleasePool::drain>("drain")},
    {method<&allocate<AutoreleasePool>>("alloc"), method<&allocate<AutoreleasePool>>("new")}};

}  // namespace

Object* Object::autorelease() {
  if (pools.stack.empty()) {
    misuse("{} was autoreleased with no pool in place on this thread: it would leak", type_.name());
  }
  pools.stack.back().push_back(this);
  return this;
}

}  // namespace gander::standin

extern "C" {

void* objc_autoreleasePoolPush() {
  return gander::standin::push();
}
void objc_autoreleasePoolPop(void* token) {
  gander::standin::pop(token);
}

}  // extern "C"
