// 8x8 matrices spread over a SIMD group: row-major element e lies in lane e % 32, at e / 32.
#pragma once

namespace metal {

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "Metal has 8x8 only");
  T elements_[2];

  simdgroup_matrix() = default;
  // `diagonal` on the diagonal, zero elsewhere.
  MSL_MEMBER explicit simdgroup_matrix(T diagonal) {
    for (uint i = 0; i < 2; ++i) {
      const uint element = lane_() + 32 * i;
      elements_[i] = element / 8 == element % 8 ? diagonal : T(0);
    }
  }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;

template <class T, int Columns, int Rows = Columns>
MSL_FUNCTION simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, Columns, Rows> result;
  result.elements_[0] = result.elements_[1] = value;
  return result;
}

// Where element `e` lies in memory.
MSL_FUNCTION ulong matrix_offset_(uint e, ulong per_row, ulong2 origin, bool transpose) {
  const uint row = transpose ? e % 8 : e / 8;
  const uint column = transpose ? e / 8 : e % 8;
  return (origin.y + row) * per_row + origin.x + column;
}
#define MSL_MATRIX_MEMORY(space)                                                                  \
  template <class T>                                                                              \
  MSL_FUNCTION void simdgroup_load(thread simdgroup_matrix<T, 8, 8>& to, const space T* from,     \
                                   ulong elements_per_row = 8, ulong2 matrix_origin = ulong2(0),  \
                                   bool transpose_matrix = false) {                               \
    for (uint i = 0; i < 2; ++i) {                                                                \
      to.elements_[i] = from[matrix_offset_(lane_() + 32 * i, elements_per_row, matrix_origin,    \
                                            transpose_matrix)];                                   \
    }                                                                                             \
  }                                                                                               \
  template <class T>                                                                              \
  MSL_FUNCTION void simdgroup_store(thread const simdgroup_matrix<T, 8, 8>& from, space T* to,    \
                                    ulong elements_per_row = 8, ulong2 matrix_origin = ulong2(0), \
                                    bool transpose_matrix = false) {                              \
    for (uint i = 0; i < 2; ++i) {                                                                \
      to[matrix_offset_(lane_() + 32 * i, elements_per_row, matrix_origin, transpose_matrix)] =   \
          from.elements_[i];                                                                      \
    }                                                                                             \
  }
MSL_EACH_SPACE(MSL_MATRIX_MEMORY)
#undef MSL_MATRIX_MEMORY

// result = a b + c
template <class D, class A, class B, class C>
MSL_FUNCTION void simdgroup_multiply_accumulate(thread simdgroup_matrix<D, 8, 8>& result,
                                                thread const simdgroup_matrix<A, 8, 8>& a,
                                                thread const simdgroup_matrix<B, 8, 8>& b,
                                                thread const simdgroup_matrix<C, 8, 8>& c,
                                                MSL_SITE_) {
  D sum[2] = {D(c.elements_[0]), D(c.elements_[1])};
  multiply_accumulate_(sum, a.elements_, b.elements_, site_);
  result.elements_[0] = sum[0];
  result.elements_[1] = sum[1];
}
template <class D, class A, class B>
MSL_FUNCTION void simdgroup_multiply(thread simdgroup_matrix<D, 8, 8>& result,
                                     thread const simdgroup_matrix<A, 8, 8>& a,
                                     thread const simdgroup_matrix<B, 8, 8>& b, MSL_SITE_) {
  D sum[2] = {D(0), D(0)};
  multiply_accumulate_(sum, a.elements_, b.elements_, site_);
  result.elements_[0] = sum[0];
  result.elements_[1] = sum[1];
}

}  // namespace metal
