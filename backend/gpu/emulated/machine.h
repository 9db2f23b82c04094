#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// Executes kernels written in Metal Shading Language on the CPU. Every GPU thread is a fiber of the
// calling CPU thread: it runs until it has to wait for others, so that a run is deterministic, and
// the order in which threads take turns can be chosen. A kernel that lacks a barrier gives other
// results in another order.
namespace gander::msl {

/// The order of thread groups, of SIMD groups in a thread group, and of lanes in a SIMD group.
enum class Order : std::uint8_t { Forward, Reverse, Shuffled };

/// Values of function constants by index; `given` has bit i set when constant i has a value.
struct FunctionConstants {
  std::array<std::uint32_t, 64> bits = {};
  std::uint64_t given = 0;
};

/// A kernel of the translated text.
struct Kernel {
  std::string_view name;
  void (*run)();          ///< as the GPU thread that Running describes
  std::uint32_t buffers;  ///< it has, numbered 0, 1, ...
  std::uint32_t written;  ///< bit i: it may write to buffer i
  /// Size of buffer i's element: of the whole structure where it is a reference, as parameters are.
  std::array<std::uint32_t, 31> element_bytes;
  std::uint64_t constants;  ///< bit i: it may read function constant i
  void (*set_constants)(const FunctionConstants& values);
};

/// Makes a kernel known; the translated files do it before main(). Returns true.
bool register_kernel(const Kernel& kernel);
/// Refers to every file of kernels/, so that a linker keeps them.
void link_kernels();
/// The kernel, or nullptr.
const Kernel* find_kernel(std::string_view name);

/// One dispatch.
struct Launch {
  const Kernel* kernel = nullptr;
  std::span<void* const> buffers;
  FunctionConstants constants;
  std::array<std::uint32_t, 3> groups = {1, 1, 1};
  std::array<std::uint32_t, 3> threads = {32, 1, 1};  ///< of a group; a multiple of 32
  std::uint32_t group_memory = 0;                     ///< bytes
  Order order = Order::Forward;
  bool resident = false;  ///< all groups run at once: they may wait for each other
};

/// Runs all threads of the dispatch. Throws Error, with the kernel, the threads and the lines, when
/// threads wait for each other at different places; the buffers are then half written.
void execute(const Launch& launch);

/// Where number `i` of `count` stands in the order; a permutation. `seed` varies Shuffled.
std::uint32_t place_in_order(Order order, std::uint32_t i, std::uint32_t count, std::uint32_t seed);

}  // namespace gander::msl
