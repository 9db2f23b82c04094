#pragma once

#include "backend/gpu/emulated/fiber.h"
#include "backend/gpu/emulated/gpu_thread.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace gander::msl {

/// Memory of a thread group, exactly as large as asked for, so that an address sanitizer sees what
/// goes past it.
class GroupMemory {
 public:
  explicit GroupMemory(std::uint32_t bytes)
      : bytes_(bytes), memory_(static_cast<std::byte*>(::operator new(bytes, kAlignment))) {
    poison();
  }
  /// As a GPU leaves it: nobody clears it. All ones are a NaN.
  void poison() { std::memset(memory_.get(), 0xff, bytes_); }
  void* get() const { return memory_.get(); }
  std::uint32_t bytes() const { return bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{16};
  struct Delete {
    void operator()(std::byte* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::uint32_t bytes_;
  std::unique_ptr<std::byte, Delete> memory_;
};

/// What the threads of a group share. Serves one group after another.
class GroupScope {
 public:
  explicit GroupScope(std::uint32_t dynamic_bytes) : dynamic_(dynamic_bytes) {}

  /// Another group begins.
  void begin() {
    dynamic_.poison();
    for (Variable& variable : variables_) variable.memory.poison();
  }
  /// Memory at [[threadgroup(0)]].
  void* dynamic() const { return dynamic_.get(); }
  /// The `threadgroup` variable that is declared at `key`.
  void* variable(const void* key, std::uint32_t bytes) {
    for (Variable& variable : variables_) {
      if (variable.key != key) continue;
      Fiber::acquire(variable.memory.get());
      return variable.memory.get();
    }
    void* memory = variables_.emplace_back(Variable{key, GroupMemory(bytes)}).memory.get();
    Fiber::release(memory);  // others use it after this thread made it
    return memory;
  }

  /// Addresses that stand for the order that barriers make, see Fiber::release.
  const void* group_token() const { return &tokens_[kMaxThreads / kLanes]; }
  const void* simd_token(std::uint32_t simd) const { return &tokens_[simd]; }

 private:
  struct Variable {
    const void* key;
    GroupMemory memory;
  };
  GroupMemory dynamic_;
  std::vector<Variable> variables_;
  char tokens_[kMaxThreads / kLanes + 1] = {};
};

}  // namespace gander::msl
