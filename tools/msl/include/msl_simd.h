// Functions over the 32 lanes of a SIMD group.
#pragma once

namespace metal {

// Values of 32 bits and less, and vectors of those.
#define MSL_SIMD_TYPE_(T) \
  static_assert(sizeof(element_<T>) <= 4, "SIMD-group functions take at most 32 bits an element")

#define MSL_SIMD_FOLD(name, expression)       \
  struct name##_ {                            \
    template <class T>                        \
    MSL_MEMBER T operator()(T a, T b) const { \
      return T(expression);                   \
    }                                         \
  };                                          \
  template <class T>                          \
  MSL_FUNCTION T name(T value, MSL_SITE_) {   \
    MSL_SIMD_TYPE_(T);                        \
    return fold_(value, name##_(), site_);    \
  }
MSL_SIMD_FOLD(simd_sum, a + b)
MSL_SIMD_FOLD(simd_product, a* b)
MSL_SIMD_FOLD(simd_max, max(a, b))
MSL_SIMD_FOLD(simd_min, min(a, b))
MSL_SIMD_FOLD(simd_and, a& b)
MSL_SIMD_FOLD(simd_or, a | b)
MSL_SIMD_FOLD(simd_xor, a ^ b)
#undef MSL_SIMD_FOLD

template <class T>
MSL_FUNCTION T simd_prefix_inclusive_sum(T value, MSL_SITE_) {
  MSL_SIMD_TYPE_(T);
  return prefix_(value, T(0), simd_sum_(), true, site_);
}
template <class T>
MSL_FUNCTION T simd_prefix_exclusive_sum(T value, MSL_SITE_) {
  MSL_SIMD_TYPE_(T);
  return prefix_(value, T(0), simd_sum_(), false, site_);
}

#define MSL_SIMD_SHUFFLE(name, argument, from)               \
  template <class T>                                         \
  MSL_FUNCTION T name(T value, ushort argument, MSL_SITE_) { \
    MSL_SIMD_TYPE_(T);                                       \
    return shuffle_(value, from, site_);                     \
  }
MSL_SIMD_SHUFFLE(simd_broadcast, lane, lane)
MSL_SIMD_SHUFFLE(simd_shuffle, lane, lane)
#ifdef MSL_SHUFFLE_XOR_
template <class T>
MSL_FUNCTION T simd_shuffle_xor(T value, ushort mask, MSL_SITE_) {
  return MSL_SHUFFLE_XOR_(value, mask, site_);
}
#else
MSL_SIMD_SHUFFLE(simd_shuffle_xor, mask, lane_() ^ mask)
#endif
MSL_SIMD_SHUFFLE(simd_shuffle_up, delta, lane_() - delta)
MSL_SIMD_SHUFFLE(simd_shuffle_down, delta, lane_() + delta)
MSL_SIMD_SHUFFLE(simd_shuffle_rotate_up, delta, (lane_() - delta) % 32)
MSL_SIMD_SHUFFLE(simd_shuffle_rotate_down, delta, (lane_() + delta) % 32)
#undef MSL_SIMD_SHUFFLE

class simd_vote {
 public:
  typedef ulong vote_t;
  explicit constexpr simd_vote(vote_t bits) : bits_(bits) {}
  explicit constexpr operator vote_t() const { return bits_; }
  bool all() const { return uint(bits_) == 0xffffffff; }
  bool any() const { return bits_ != 0; }

 private:
  vote_t bits_;
};

MSL_FUNCTION simd_vote simd_ballot(bool value, MSL_SITE_) {
  return simd_vote(ballot_(value, site_));
}
MSL_FUNCTION simd_vote simd_active_threads_mask(MSL_SITE_) {
  return simd_vote(ballot_(true, site_));
}
MSL_FUNCTION bool simd_any(bool value, MSL_SITE_) {
  return ballot_(value, site_) != 0;
}
MSL_FUNCTION bool simd_all(bool value, MSL_SITE_) {
  return ballot_(!value, site_) == 0;
}
MSL_FUNCTION bool simd_is_first(MSL_SITE_) {
  return lane_() == ctz(ballot_(true, site_));
}
template <class T>
MSL_FUNCTION T simd_broadcast_first(T value, MSL_SITE_) {
  MSL_SIMD_TYPE_(T);
  const uint first = ctz(ballot_(true, site_));
  return shuffle_(value, first, site_);
}

}  // namespace metal
