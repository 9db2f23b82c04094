// Mistakes in types, names and attributes that clang's front end rejects.
#include <metal_stdlib>
using namespace metal;

constant uint width [[function_constant(0)]];
struct Parameters {
  uint rows;
};

kernel void attribute_types(device float* x [[buffer(0)]],
                            constant Parameters p [[buffer(1)]],  // error: parameter may not be qualified
                            threadgroup float* y [[buffer(2)]],  // error: needs device or constant
                            uint3 lane [[thread_index_in_simdgroup]],  // error: is one of uint, ushort
                            float group [[threadgroup_position_in_grid]],  // error: is one of uint
                            int simd [[simdgroup_index_in_threadgroup]],  // error: is one of uint
                            device float* scratch [[threadgroup(0)]]) {  // error: needs threadgroup
  x[0] = group;
}

kernel void names_and_types(device float* x [[buffer(0)]], device atomic_uint* count [[buffer(1)]],
                            device const half4* halves [[buffer(2)]],
                            uint i [[thread_index_in_threadgroup]]) {
  threadgroup float table[width];  // error: not a constant expression
  float4 v = float4(x[0], x[1]);  // error: wrong number of elements
  float4 wide = halves[0];  // error: no viable conversion
  float2 pair = float2(1.0f);
  x[0] = pair.z;  // error: no member named 'z'
  x[1] = simd_summ(x[0]);  // error: undeclared identifier
  x[2] = simd_sum(ulong(i));  // error: at most 32 bits
  threadgroup_barrier();  // error: no matching function
  threadgroup_barrier(mem_flags::mem_local);  // error: no member named 'mem_local'
  atomic_fetch_add_explicit(x, 1.0f, memory_order_relaxed);  // error: no matching function
  atomic_fetch_add_explicit(count, 1u, memory_order_acquire);  // error: undeclared identifier
  count[0] += 1;  // error: no viable overloaded
  x[3] = as_type<float>(half(x[0]));  // error: types of one size
  x[4] = exp(3);  // error: ambiguous
  x[5] = max(x[0], 1);  // error: ambiguous
  simdgroup_matrix<float, 16, 16> big;  // error: 8x8 only
  simdgroup_half8x8 tile;
  simdgroup_load(tile, x, 8);  // error: no matching function
  float variable[i];  // error: array size is not a constant
  int4 shifted = int4(1) << 2;
  float4 shifted_floats = float4(1.0f) << 2;  // error: integers only
  static uint calls = 0;  // error: static
  if constexpr (sizeof(float) == 4) x[6] = 1.0f;  // error: C++
}
int not_constant = 3;  // error: program scope variable
