// The parts of Metal that kernels use, one after another: what they give is compared with C++.
#include <metal_stdlib>
using namespace metal;

// Every lane's value of each function goes to out[32 * number + lane].
kernel void test_simd_functions(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                                device uint* bits [[buffer(2)]],
                                uint lane [[thread_index_in_simdgroup]]) {
  const float x = in[lane];
  const uint n = uint(lane) * 7u + 1u;
  out[0 * 32 + lane] = simd_sum(x);
  out[1 * 32 + lane] = simd_max(x);
  out[2 * 32 + lane] = simd_min(x);
  out[3 * 32 + lane] = simd_product(lane < 3 ? x : 1.0f);
  out[4 * 32 + lane] = simd_prefix_inclusive_sum(x);
  out[5 * 32 + lane] = simd_prefix_exclusive_sum(x);
  out[6 * 32 + lane] = simd_broadcast(x, 5);
  out[7 * 32 + lane] = simd_shuffle(x, ushort(31 - lane));
  out[8 * 32 + lane] = simd_shuffle_xor(x, 3);
  out[9 * 32 + lane] = simd_shuffle_up(x, 2);
  out[10 * 32 + lane] = simd_shuffle_down(x, 4);
  out[11 * 32 + lane] = simd_shuffle_rotate_down(x, 1);
  out[12 * 32 + lane] = simd_broadcast_first(x);
  out[13 * 32 + lane] = simd_sum(float2(x, 1.0f)).y;
  bits[0 * 32 + lane] = simd_and(n);
  bits[1 * 32 + lane] = simd_or(n);
  bits[2 * 32 + lane] = simd_xor(n);
  bits[3 * 32 + lane] = uint(simd_vote::vote_t(simd_ballot(lane % 3 == 0)));
  bits[4 * 32 + lane] = simd_any(lane == 9) ? 1u : 0u;
  bits[5 * 32 + lane] = simd_all(lane < 32) ? 1u : 0u;
  bits[6 * 32 + lane] = simd_all(lane != 9) ? 1u : 0u;
  bits[7 * 32 + lane] = simd_is_first() ? 1u : 0u;
}

// Lanes that have left do not take part.
kernel void test_lanes_that_left(device float* out [[buffer(0)]],
                                 uint lane [[thread_index_in_simdgroup]]) {
  if (lane % 2 == 0) return;
  out[lane] = simd_sum(1.0f) + (simd_is_first() ? 100.0f : 0.0f);
}

kernel void test_half(device const half* in [[buffer(0)]], device half* out [[buffer(1)]],
                      device float* wide [[buffer(2)]],
                      uint i [[thread_index_in_threadgroup]]) {
  if (i != 0) return;
  const half a = in[0];
  const half b = in[1];
  out[0] = a + b;
  out[1] = a * b;
  out[2] = a / b;
  out[3] = a - 1;
  out[4] = -a;
  out[5] = half(70000.0f);
  out[6] = max(a, b);
  half sum = a;
  sum += b;
  sum *= 2;
  out[7] = sum;
  wide[0] = a * 0.1f;
  wide[1] = float(a) * float(b);
  wide[2] = a < b ? 1.0f : 0.0f;
  wide[3] = float(half4(a)[3]) + float(half2(a, b).y);
}

struct Packed {
  packed_float3 position;
  float weight;
};

kernel void test_vectors(device const float4* in [[buffer(0)]], device const Packed* packed [[buffer(1)]],
                         device float* out [[buffer(2)]], device uint* bits [[buffer(3)]],
                         uint i [[thread_index_in_threadgroup]]) {
  if (i != 0) return;
  const float4 v = in[0];
  out[0] = float4(v.wzyx).x;
  out[1] = dot(v, v);
  out[2] = dot(v.xy, float2(1.0f, 2.0f));
  out[3] = (v * 2.0f + 1.0f).z;
  out[4] = (2.0f * v).y;
  float3 r = v.zyx;
  r.xy += v.ww;
  out[5] = r.x;
  out[6] = r.y;
  out[7] = clamp(v, 2.0f, 3.0f).x + clamp(v, 2.0f, 3.0f).w;
  out[8] = any(v > 3.5f) && !all(v > 3.5f) ? 1.0f : 0.0f;
  out[9] = select(v, float4(0.0f), v > 2.5f).y + select(v, float4(0.0f), v > 2.5f).z;
  const float3 p = packed[1].position;
  out[10] = p.x + p.y + p.z + packed[1].weight;
  out[11] = float(sizeof(packed_float3)) + float(sizeof(float3)) + float(sizeof(half4));
  const uint4 u = as_type<uint4>(v);
  bits[0] = u.x;
  bits[1] = ((u >> 4) & 0xfu).y;
  bits[2] = (uint4(1u, 2u, 3u, 4u) << uint4(1u, 1u, 2u, 2u)).w;
  const uchar4 bytes = as_type<uchar4>(0x04030201u);
  bits[3] = uint(bytes.w) * 10u + uint(bytes.x);
  const short2 narrowed = short2(int2(-1, 70000));
  bits[4] = uint(ushort(narrowed.x)) + uint(narrowed.y);
  out[12] = exp(float2(0.0f, 1.0f)).y + abs(float2(-3.0f)).x;
  out[13] = float3(v.x, v.yz).z + float4(v.xy, v.zw).w;
}

kernel void test_numbers(device float* out [[buffer(0)]], device uint* bits [[buffer(1)]],
                         device const float* in [[buffer(2)]],
                         uint i [[thread_index_in_threadgroup]]) {
  if (i != 0) return;
  const float x = in[0];
  out[0] = exp(x);
  out[1] = exp2(x);
  out[2] = log(x);
  out[3] = tanh(x);
  out[4] = rsqrt(x);
  out[5] = pow(x, 3.0f);
  out[6] = fma(x, 2.0f, 1.0f);
  out[7] = precise::exp(x) + fast::log2(x);
  out[8] = max(NAN, x) + min(x, NAN);
  out[9] = floor(-x) + rint(x) + trunc(-x) + ceil(x);
  out[10] = sign(-x) + saturate(x) + mix(1.0f, 3.0f, 0.5f) + step(1.0f, x);
  out[11] = isnan(in[1]) && isinf(INFINITY) && isfinite(x) ? 1.0f : 0.0f;
  bits[0] = popcount(0xf0f0u) + clz(1u) + ctz(8u) + clz(0u);
  bits[1] = mulhi(0x80000000u, 6u);
  const ulong product = mulhi(0x123456789abcdef0ul, 0xfedcba9876543210ul);
  bits[2] = uint(product);
  bits[3] = uint(product >> 32);
  bits[4] = rotate(0x80000001u, 4u);
  bits[5] = reverse_bits(1u) + extract_bits(0xabcdu, 4u, 8u);
  bits[6] = uint(abs(-5)) + uint(max(-3, 2)) + uint(min(7u, 9u));
  bits[7] = as_type<uint>(1.0f);
}

kernel void test_atomics(device atomic_uint* words [[buffer(0)]], device uint* seen [[buffer(1)]],
                         uint i [[thread_index_in_threadgroup]]) {
  threadgroup atomic_uint shared;
  if (i == 0) atomic_store_explicit(&shared, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  atomic_fetch_add_explicit(&words[0], i, memory_order_relaxed);
  atomic_fetch_or_explicit(&words[1], 1u << (i % 32), memory_order_relaxed);
  atomic_fetch_min_explicit(&words[2], i + 5, memory_order_relaxed);
  atomic_fetch_max_explicit(&words[3], i + 5, memory_order_relaxed);
  atomic_fetch_and_explicit(&words[4], ~i, memory_order_relaxed);
  atomic_fetch_xor_explicit(&words[5], i, memory_order_relaxed);
  atomic_fetch_sub_explicit(&words[6], 1u, memory_order_relaxed);
  seen[i] = atomic_fetch_add_explicit(&shared, 1u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (i == 0) {
    atomic_store_explicit(&words[7], atomic_load_explicit(&shared, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_exchange_explicit(&words[8], 77u, memory_order_relaxed);
    uint expected = 77u;
    while (!atomic_compare_exchange_weak_explicit(&words[8], &expected, 78u, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
  }
}

// c = a b + c for 8x8 matrices: a in half, transposed in memory; c with rows 16 apart.
kernel void test_matrices(device const half* a [[buffer(0)]], device const float* b [[buffer(1)]],
                          device float* c [[buffer(2)]], device float* scaled [[buffer(3)]]) {
  simdgroup_half8x8 a_tile;
  simdgroup_float8x8 b_tile;
  simdgroup_float8x8 c_tile;
  simdgroup_load(a_tile, a, 8, ulong2(0, 0), true);
  simdgroup_load(b_tile, b);
  simdgroup_load(c_tile, c, 16, ulong2(8, 1));
  simdgroup_multiply_accumulate(c_tile, a_tile, b_tile, c_tile);
  simdgroup_store(c_tile, c, 16, ulong2(8, 1));
  simdgroup_float8x8 twice(2.0f);
  simdgroup_multiply(b_tile, twice, b_tile);
  simdgroup_store(b_tile, scaled, 8);
}

template <typename T, int N>
kernel void test_template(device T* out [[buffer(0)]], uint2 at [[thread_position_in_grid]],
                          ushort2 groups [[threadgroups_per_grid]],
                          uint2 in_group [[thread_position_in_threadgroup]]) {
  out[at.y * groups.x * 32 + at.x] = T(N * int(at.x) + int(at.y) + 1000 * int(in_group.x));
}
template [[host_name("test_template_float")]] kernel decltype(test_template<float, 3>) test_template<float, 3>;
template [[host_name("test_template_int")]] kernel decltype(test_template<int, 5>) test_template<int, 5>;
