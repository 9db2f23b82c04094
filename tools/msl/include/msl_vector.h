// Vectors of 2, 3 and 4 elements with their swizzles, packed vectors, and the casts between them.
#pragma once

namespace metal {

template <class T, int N>
struct vec;
template <class T, int N>
struct packed_;  // packed_float3 and the like: aligned as an element is
template <class V, int N, int... I>
struct swizzle_;

// What a type is made of: a number is one element.
template <class T>
struct elements_ {
  using type = T;
  enum { count = 1 };
};
template <class T, int N>
struct elements_<vec<T, N>> {
  using type = T;
  enum { count = N };
};
template <class T, int N>
struct elements_<packed_<T, N>> : elements_<vec<T, N>> {};
template <class V, int N, int... I>
struct elements_<swizzle_<V, N, I...>> : elements_<V> {};

template <class T>
using element_ = typename elements_<T>::type;
template <bool B, class T = int>
struct enable_ {};
template <class T>
struct enable_<true, T> {
  using type = T;
};
// The vec that a vec, packed vector or swizzle stands for; nothing for a number.
template <class V>
using as_vec_ =
    typename enable_<(elements_<V>::count > 1), vec<element_<V>, elements_<V>::count>>::type;
// T, but not to be deduced from this argument.
template <class T>
struct same_ {
  using type = T;
};
template <class T>
using not_deduced_ = typename same_<T>::type;
template <class A, class B>
struct is_same_ {
  enum { value = false };
};
template <class A>
struct is_same_<A, A> {
  enum { value = true };
};
template <class T>
struct is_integer_ {
  enum { value = T(1) / T(2) == T(0) };
};

// v.zx: some elements of a vector of N, where they lie.
template <class V, int N, int... I>
struct swizzle_ {
  using T = element_<V>;
  T v[N];

  MSL_MEMBER constexpr operator V() const { return V(v[I]...); }
  MSL_MEMBER void operator=(V other) {
    int k = 0;
    ((v[I] = other.v[k++]), ...);
  }
  MSL_MEMBER void operator=(const swizzle_& other) { *this = V(other); }
#if MSL_CHECK
  constexpr operator V() const __constant {
    return V(v[I]...);
  }
  void operator=(const __constant swizzle_& other) {
    *this = V(other);
  }
#endif
  MSL_MEMBER void operator+=(V other) {
    *this = V(*this) + other;
  }
  MSL_MEMBER void operator-=(V other) {
    *this = V(*this) - other;
  }
  MSL_MEMBER void operator*=(V other) {
    *this = V(*this) * other;
  }
  MSL_MEMBER void operator/=(V other) {
    *this = V(*this) / other;
  }
  MSL_MEMBER constexpr T operator[](int i) const {
    return V(*this).v[i];
  }
};

// All pairs; of the longer ones those that kernels use.
#define MSL_SWIZZLE_(N, name, size, ...) swizzle_<vec<T, size>, N, __VA_ARGS__> name
#define MSL_PAIRS2_(N, a, i)      \
  MSL_SWIZZLE_(N, a##x, 2, i, 0); \
  MSL_SWIZZLE_(N, a##y, 2, i, 1)
#define MSL_PAIRS3_(N, a, i) \
  MSL_PAIRS2_(N, a, i);      \
  MSL_SWIZZLE_(N, a##z, 2, i, 2)
#define MSL_PAIRS4_(N, a, i) \
  MSL_PAIRS3_(N, a, i);      \
  MSL_SWIZZLE_(N, a##w, 2, i, 3)
#define MSL_TRIPLES_(N)             \
  MSL_SWIZZLE_(N, xxx, 3, 0, 0, 0); \
  MSL_SWIZZLE_(N, xyz, 3, 0, 1, 2); \
  MSL_SWIZZLE_(N, zyx, 3, 2, 1, 0); \
  MSL_SWIZZLE_(N, yzx, 3, 1, 2, 0); \
  MSL_SWIZZLE_(N, zxy, 3, 2, 0, 1)

template <class T, int N>
struct storage_;
template <class T>
struct storage_<T, 2> {
  union {
    T v[2];
    struct {
      T x, y;
    };
    MSL_PAIRS2_(2, x, 0);
    MSL_PAIRS2_(2, y, 1);
  };
};
template <class T>
struct storage_<T, 3> {
  union {
    T v[3];
    struct {
      T x, y, z;
    };
    MSL_PAIRS3_(3, x, 0);
    MSL_PAIRS3_(3, y, 1);
    MSL_PAIRS3_(3, z, 2);
    MSL_TRIPLES_(3);
  };
};
template <class T>
struct storage_<T, 4> {
  union {
    T v[4];
    struct {
      T x, y, z, w;
    };
    MSL_PAIRS4_(4, x, 0);
    MSL_PAIRS4_(4, y, 1);
    MSL_PAIRS4_(4, z, 2);
    MSL_PAIRS4_(4, w, 3);
    MSL_TRIPLES_(4);
    MSL_SWIZZLE_(4, yzw, 3, 1, 2, 3);
    MSL_SWIZZLE_(4, xxxx, 4, 0, 0, 0, 0);
    MSL_SWIZZLE_(4, wzyx, 4, 3, 2, 1, 0);
    MSL_SWIZZLE_(4, yzwx, 4, 1, 2, 3, 0);
    MSL_SWIZZLE_(4, zwxy, 4, 2, 3, 0, 1);
    MSL_SWIZZLE_(4, yxwz, 4, 1, 0, 3, 2);
    MSL_SWIZZLE_(4, wxyz, 4, 3, 0, 1, 2);
  };
};
#undef MSL_SWIZZLE_
#undef MSL_PAIRS2_
#undef MSL_PAIRS3_
#undef MSL_PAIRS4_
#undef MSL_TRIPLES_

template <class T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : storage_<T, N> {
  using storage_<T, N>::v;

  vec() = default;
  // As a whole, not by element: a load or store of 16 bytes stays one.
  vec(const vec& other) = default;
  MSL_MEMBER vec& operator=(const vec& other) {
    __builtin_memcpy((void*)this, (const void*)&other, sizeof other);
    return *this;
  }
  // A number stands for a vector of equal elements.
  MSL_MEMBER constexpr vec(T s) : storage_<T, N>{} {
    for (int i = 0; i < N; ++i) v[i] = s;
  }
  template <class U>
  MSL_MEMBER constexpr explicit vec(const vec<U, N>& other) : storage_<T, N>{} {
    copy_(other.v);
  }
  template <class U>
  MSL_MEMBER constexpr explicit vec(const packed_<U, N>& other) : storage_<T, N>{} {
    copy_(other.v);
  }
  template <class U, int M, int... I>
  MSL_MEMBER constexpr explicit vec(const swizzle_<vec<U, N>, M, I...>& other) : storage_<T, N>{} {
    const vec<U, N> from = other;
    copy_(from.v);
  }
  // float4(a, b.xy, c): pieces that make up N elements.
  template <class A, class B, class... C>
  MSL_MEMBER constexpr vec(A a, B b, C... c) : storage_<T, N>{} {
    static_assert(int(elements_<A>::count) + int(elements_<B>::count) +
                          (int(elements_<C>::count) + ... + 0) ==
                      N,
                  "wrong number of elements");
    int i = 0;
    put_(i, a);
    put_(i, b);
    (put_(i, c), ...);
  }
#if MSL_CHECK
  constexpr vec(const __constant vec& other) : storage_<T, N>{} {
    copy_(other.v);
  }
  vec& operator=(const __constant vec& other) {
    return *this = vec(other);
  }
  vec& operator=(T s) {
    return *this = vec(s);
  }
  template <class U>
  constexpr explicit vec(const __constant vec<U, N>& other) : storage_<T, N>{} {
    copy_(other.v);
  }
  template <class U>
  constexpr explicit vec(const __constant packed_<U, N>& other) : storage_<T, N>{} {
    copy_(other.v);
  }
  template <class U, int M, int... I>
  constexpr explicit vec(const __constant swizzle_<vec<U, N>, M, I...>& other) : storage_<T, N>{} {
    const vec<U, N> from = other;
    copy_(from.v);
  }
  constexpr T operator[](int i) const __constant {
    return v[i];
  }
#endif

  MSL_MEMBER T& operator[](int i) {
    return v[i];
  }
  MSL_MEMBER constexpr T operator[](int i) const {
    return v[i];
  }

#define MSL_VECTOR_OPERATOR(op, condition)                    \
  friend MSL_MEMBER constexpr vec operator op(vec a, vec b) { \
    static_assert(condition, "integers only");                \
    vec r(T(0));                                              \
    for (int i = 0; i < N; ++i) r.v[i] = T(a.v[i] op b.v[i]); \
    return r;                                                 \
  }                                                           \
  MSL_MEMBER vec& operator op##=(vec b) {                     \
    static_assert(condition, "integers only");                \
    for (int i = 0; i < N; ++i) v[i] = T(v[i] op b.v[i]);     \
    return *this;                                             \
  }
  MSL_VECTOR_OPERATOR(+, true)
  MSL_VECTOR_OPERATOR(-, true)
  MSL_VECTOR_OPERATOR(*, true)
  MSL_VECTOR_OPERATOR(/, true)
  MSL_VECTOR_OPERATOR(%, is_integer_<T>::value)
  MSL_VECTOR_OPERATOR(&, is_integer_<T>::value)
  MSL_VECTOR_OPERATOR(|, is_integer_<T>::value)
  MSL_VECTOR_OPERATOR(^, is_integer_<T>::value)
  MSL_VECTOR_OPERATOR(<<, is_integer_<T>::value)
  MSL_VECTOR_OPERATOR(>>, is_integer_<T>::value)
#undef MSL_VECTOR_OPERATOR
#define MSL_VECTOR_COMPARISON(op)                                      \
  friend MSL_MEMBER constexpr vec<bool, N> operator op(vec a, vec b) { \
    vec<bool, N> r(false);                                             \
    for (int i = 0; i < N; ++i) r.v[i] = a.v[i] op b.v[i];             \
    return r;                                                          \
  }
  MSL_VECTOR_COMPARISON(<)
  MSL_VECTOR_COMPARISON(>)
  MSL_VECTOR_COMPARISON(<=)
  MSL_VECTOR_COMPARISON(>=)
  MSL_VECTOR_COMPARISON(==)
  MSL_VECTOR_COMPARISON(!=)
  MSL_VECTOR_COMPARISON(&&)
  MSL_VECTOR_COMPARISON(||)
#undef MSL_VECTOR_COMPARISON
  friend MSL_MEMBER constexpr vec operator-(vec a) {
    return vec(T(0)) - a;
  }
  friend MSL_MEMBER constexpr vec operator~(vec a) {
    static_assert(is_integer_<T>::value, "integers only");
    for (int i = 0; i < N; ++i) a.v[i] = T(~a.v[i]);
    return a;
  }
  friend MSL_MEMBER constexpr vec<bool, N> operator!(vec a) {
    return a == vec(T(0));
  }

 private:
  template <class P>
  MSL_MEMBER constexpr void copy_(P from) {
    for (int i = 0; i < N; ++i) v[i] = T(from[i]);
  }
  template <class A>
  MSL_MEMBER constexpr void put_(int& i, A a) {
    if constexpr (elements_<A>::count == 1) {
      v[i++] = T(a);
    } else {
      for (int k = 0; k < elements_<A>::count; ++k) v[i++] = T(a[k]);
    }
  }
};
template <class T>
struct vec<T, 1>;

template <class T, int N>
struct packed_ {
  T v[N];

  packed_() = default;
  MSL_MEMBER constexpr packed_(const vec<T, N>& other) : v{} {
    for (int i = 0; i < N; ++i) v[i] = other.v[i];
  }
  MSL_MEMBER constexpr explicit packed_(T s) : packed_(vec<T, N>(s)) {}
  template <class A, class B, class... C>
  MSL_MEMBER constexpr packed_(A a, B b, C... c) : packed_(vec<T, N>(a, b, c...)) {}
  MSL_MEMBER constexpr operator vec<T, N>() const {
    vec<T, N> r(T(0));
    for (int i = 0; i < N; ++i) r.v[i] = v[i];
    return r;
  }
  MSL_MEMBER T& operator[](int i) { return v[i]; }
  MSL_MEMBER constexpr T operator[](int i) const { return v[i]; }
#if MSL_CHECK
  packed_(const packed_&) = default;
  packed_& operator=(const packed_&) = default;
  constexpr packed_(const __constant packed_& other) : v{} {
    for (int i = 0; i < N; ++i) v[i] = other.v[i];
  }
  packed_& operator=(const __constant packed_& other) {
    return *this = packed_(other);
  }
  constexpr operator vec<T, N>() const __constant {
    vec<T, N> r(T(0));
    for (int i = 0; i < N; ++i) r.v[i] = v[i];
    return r;
  }
  constexpr T operator[](int i) const __constant {
    return v[i];
  }
#endif
};

}  // namespace metal

#define MSL_VECTOR_TYPES(name, type)                \
  typedef metal::vec<type, 2> name##2;              \
  typedef metal::vec<type, 3> name##3;              \
  typedef metal::vec<type, 4> name##4;              \
  typedef metal::packed_<type, 2> packed_##name##2; \
  typedef metal::packed_<type, 3> packed_##name##3; \
  typedef metal::packed_<type, 4> packed_##name##4;
MSL_VECTOR_TYPES(float, float)
MSL_VECTOR_TYPES(half, half)
MSL_VECTOR_TYPES(char, signed char)
MSL_VECTOR_TYPES(uchar, uchar)
MSL_VECTOR_TYPES(short, short)
MSL_VECTOR_TYPES(ushort, ushort)
MSL_VECTOR_TYPES(int, int)
MSL_VECTOR_TYPES(uint, uint)
MSL_VECTOR_TYPES(long, long)
MSL_VECTOR_TYPES(ulong, ulong)
MSL_VECTOR_TYPES(bool, bool)
#undef MSL_VECTOR_TYPES

// The bits of a value, as another type of the same size.
template <class To, class From>
MSL_FUNCTION To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs types of one size");
  To to;
  __builtin_memcpy((void*)&to, (const void*)&from, sizeof to);
  return to;
}
