#pragma once

#include <cstdint>

// What a translated kernel sees of the machine that runs it: who it is, what is bound, and how to
// wait for others. Kernels reach this through the dialect header; nothing else includes it.
namespace gander::msl {

inline constexpr std::uint32_t kLanes = 32;
inline constexpr std::uint32_t kMaxThreads = 1024;  // of a group

/// A place in a kernel's text.
struct Site {
  const char* file = "";
  int line = 0;

  bool operator==(const Site& other) const {
    return line == other.line && (file == other.file || __builtin_strcmp(file, other.file) == 0);
  }
};

/// Where the lanes of a SIMD group leave values for each other. A lane can be one operation ahead
/// of another, never two, so there are two of everything.
struct SimdExchange {
  static constexpr std::uint32_t kBytes = 16;  // the largest value
  struct Slots {
    alignas(kBytes) unsigned char values[kLanes][kBytes];
    alignas(kBytes) unsigned char folded[kBytes];
    std::uint32_t participants = 0;  // bit i: lane i took part
    bool is_folded = false;
  };
  Slots slots[2];
  std::uint32_t turn = 0;  // which slots the next operation uses
};

/// The GPU thread that runs on this CPU thread now.
struct Running {
  std::uint32_t thread = 0;  // in its thread group
  std::uint32_t group[3] = {};
  std::uint32_t threads[3] = {1, 1, 1};
  std::uint32_t groups[3] = {1, 1, 1};
  void* const* buffers = nullptr;
  void* group_memory = nullptr;
  SimdExchange* simd = nullptr;  // of its SIMD group
};

extern constinit thread_local Running running;

/// Returns when all lanes of the SIMD group wait here (those that left the kernel do not count).
void wait_for_lanes(Site site, bool orders_memory);
/// Returns when all threads of the group wait here.
void wait_for_group(Site site, bool orders_memory);
/// Lets the other groups of a resident launch go on, before the thread looks again for what it
/// waits for. All lanes of a SIMD group call it.
void wait_for_others(Site site);
/// A fence of device memory: tells the thread sanitizer; the emulation runs in order anyway.
void fence_device();
/// Memory for a `threadgroup` variable, the same for all threads of the group. `key` names the
/// declaration. Full of NaNs when the group begins.
void* group_variable(const void* key, std::uint32_t bytes);

/// Not seen by the thread sanitizer: lanes exchange values without ordering their memory.
#define GANDER_NO_THREAD_SANITIZER __attribute__((no_sanitize("thread")))

/// The values of one exchange, after all lanes have put theirs.
template <class T>
struct Exchanged {
  SimdExchange::Slots* slots;

  GANDER_NO_THREAD_SANITIZER bool has(std::uint32_t lane) const {
    return lane < kLanes && (slots->participants >> lane & 1U) != 0;
  }
  GANDER_NO_THREAD_SANITIZER T of(std::uint32_t lane) const {
    return *reinterpret_cast<const T*>(slots->values[lane]);
  }
};

/// Shows `value` to the other lanes of the SIMD group and waits for theirs.
template <class T>
GANDER_NO_THREAD_SANITIZER Exchanged<T> exchange(T value, Site site) {
  static_assert(sizeof(T) <= SimdExchange::kBytes, "at most 16 bytes a lane");
  SimdExchange& simd = *running.simd;
  SimdExchange::Slots* slots = &simd.slots[simd.turn];
  *reinterpret_cast<T*>(slots->values[running.thread % kLanes]) = value;
  wait_for_lanes(site, false);
  return {slots};
}

/// f over the values of all lanes, in the order of a butterfly: lanes 16 apart first.
template <class T, class F>
GANDER_NO_THREAD_SANITIZER T fold(T value, F f, Site site) {
  const Exchanged<T> all = exchange(value, site);
  SimdExchange::Slots& slots = *all.slots;
  T* result = reinterpret_cast<T*>(slots.folded);
  if (!slots.is_folded) {  // the first lane that goes on computes it for all
    T sums[kLanes];
    std::uint32_t present = slots.participants;
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) sums[lane] = all.of(lane);
    for (std::uint32_t half = kLanes / 2; half > 0; half /= 2) {
      if (present == ~0U) {
        for (std::uint32_t lane = 0; lane < half; ++lane) {
          sums[lane] = f(sums[lane], sums[lane + half]);
        }
        continue;
      }
      for (std::uint32_t lane = 0; lane < half; ++lane) {
        const bool low = (present >> lane & 1U) != 0;
        const bool high = (present >> (lane + half) & 1U) != 0;
        if (high) sums[lane] = low ? f(sums[lane], sums[lane + half]) : sums[lane + half];
        if (high) present |= 1U << lane;
      }
    }
    *result = sums[0];
    slots.is_folded = true;
  }
  return *result;
}

// What the parameters of a kernel are bound to: their default arguments.

/// A buffer or group memory, as whatever the kernel declares.
struct PointerArgument {
  void* pointer;

  template <class T>
  operator T*() const {
    return static_cast<T*>(pointer);
  }
  template <class T>
  operator T&() const {
    return *static_cast<T*>(pointer);
  }
};

struct IndexArgument {
  std::uint32_t x;

  operator std::uint32_t() const { return x; }
  operator std::uint16_t() const { return static_cast<std::uint16_t>(x); }
};

/// A position or extent: a scalar, or a vector of up to three.
struct GridArgument : IndexArgument {
  std::uint32_t y, z;

  template <template <class, int> class Vector, class T>
  operator Vector<T, 2>() const {
    return Vector<T, 2>(T(x), T(y));
  }
  template <template <class, int> class Vector, class T>
  operator Vector<T, 3>() const {
    return Vector<T, 3>(T(x), T(y), T(z));
  }
};

inline PointerArgument buffer(std::uint32_t index) {
  return {running.buffers[index]};
}
inline PointerArgument group_memory(std::uint32_t /*index*/) {
  return {running.group_memory};
}

inline GridArgument grid(const std::uint32_t (&of)[3]) {
  return {{of[0]}, of[1], of[2]};
}
inline GridArgument threadgroup_position_in_grid() {
  return grid(running.group);
}
inline GridArgument threads_per_threadgroup() {
  return grid(running.threads);
}
inline GridArgument threadgroups_per_grid() {
  return grid(running.groups);
}
inline GridArgument threads_per_grid() {
  const std::uint32_t* threads = running.threads;
  const std::uint32_t* groups = running.groups;
  return {{groups[0] * threads[0]}, groups[1] * threads[1], groups[2] * threads[2]};
}
inline GridArgument thread_position_in_threadgroup() {
  const std::uint32_t* threads = running.threads;
  return {{running.thread % threads[0]},
          running.thread / threads[0] % threads[1],
          running.thread / threads[0] / threads[1]};
}
inline GridArgument thread_position_in_grid() {
  const GridArgument in_group = thread_position_in_threadgroup();
  const std::uint32_t* threads = running.threads;
  const std::uint32_t* group = running.group;
  return {{group[0] * threads[0] + in_group.x},
          group[1] * threads[1] + in_group.y,
          group[2] * threads[2] + in_group.z};
}
inline std::uint32_t group_threads() {
  return running.threads[0] * running.threads[1] * running.threads[2];
}
inline IndexArgument thread_index_in_threadgroup() {
  return {running.thread};
}
inline IndexArgument thread_index_in_simdgroup() {
  return {running.thread % kLanes};
}
inline IndexArgument simdgroup_index_in_threadgroup() {
  return {running.thread / kLanes};
}
inline IndexArgument simdgroups_per_threadgroup() {
  return {group_threads() / kLanes};
}
inline IndexArgument threads_per_simdgroup() {
  return {kLanes};
}

}  // namespace gander::msl
