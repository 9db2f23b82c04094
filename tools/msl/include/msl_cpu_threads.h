// The CPU dialect: how threads wait and exchange values.
#pragma once

namespace metal {

// The place in the kernel that calls: a default argument of everything that waits.
#define MSL_SITE_ msl::Site site_ = {__builtin_FILE(), __builtin_LINE()}

inline void threadgroup_barrier(mem_flags flags, MSL_SITE_) {
  msl::wait_for_group(site_, flags != mem_flags::mem_none);
}
inline void simdgroup_barrier(mem_flags flags, MSL_SITE_) {
  msl::wait_for_lanes(site_, flags != mem_flags::mem_none);
}
inline void atomic_thread_fence(mem_flags flags, memory_order,
                                thread_scope scope = thread_scope_device) {
  if (flags != mem_flags::mem_none && scope == thread_scope_device) msl::fence_device();
}

inline uint lane_() {
  return msl::thread_index_in_simdgroup();
}

// The value of lane `from`; this lane's own where there is no such lane.
template <class T>
inline T shuffle_(T value, uint from, msl::Site site) {
  const msl::Exchanged<T> all = msl::exchange(value, site);
  return all.has(from) ? all.of(from) : value;
}
template <class T, class F>
inline T fold_(T value, F f, msl::Site site) {
  return msl::fold(value, f, site);
}
// f over the lanes before this one, and over it too when `inclusive`, from lane 0 up.
template <class T, class F>
inline T prefix_(T value, T start, F f, bool inclusive, msl::Site site) {
  const msl::Exchanged<T> all = msl::exchange(value, site);
  const uint end = lane_() + (inclusive ? 1 : 0);
  for (uint lane = 0; lane < end; ++lane) {
    if (all.has(lane)) start = f(start, all.of(lane));
  }
  return start;
}
inline uint ballot_(bool value, msl::Site site) {
  const msl::Exchanged<bool> all = msl::exchange(value, site);
  uint bits = 0;
  for (uint lane = 0; lane < msl::kLanes; ++lane) {
    if (all.has(lane) && all.of(lane)) bits |= 1U << lane;
  }
  return bits;
}

// sum += a b for 8x8 matrices of which every lane has elements `lane` and `lane + 32`.
template <class D, class A, class B>
inline void multiply_accumulate_(D* sum, const A* a, const B* b, msl::Site site) {
  struct Elements {
    A a[2];
    B b[2];
  };
  const msl::Exchanged<Elements> all = msl::exchange(Elements{{a[0], a[1]}, {b[0], b[1]}}, site);
  for (uint part = 0; part < 2; ++part) {
    const uint element = lane_() + 32 * part;
    for (uint k = 0; k < 8; ++k) {
      const uint in_a = element / 8 * 8 + k;
      const uint in_b = k * 8 + element % 8;
      sum[part] += D(all.of(in_a % 32).a[in_a / 32]) * D(all.of(in_b % 32).b[in_b / 32]);
    }
  }
}

}  // namespace metal
