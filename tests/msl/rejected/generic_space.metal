// Mistakes that clang lets through, because OpenCL has a generic address space, or recursion.
#include <metal_stdlib>
using namespace metal;

struct Parameters {
  uint rows;
  uint twice() const { return 2 * rows; }
};
struct Holder {
  float* pointer;  // error: 'pointer' needs an address space
  device float* right;
};
static float first(const float* x) { return x[0]; }  // error: 'x' needs an address space
static float value(const Parameters& p) { return float(p.rows); }  // error: 'p' needs an address space
template <class T>
static T load(T* x) { return x[0]; }  // error: 'x' needs an address space
static uint count_down(uint n) { return n == 0 ? 0 : count_down(n - 1); }  // error: calls itself
static uint odd(uint n);  // error: calls itself
static uint even(uint n) { return n == 0 ? 1 : odd(n - 1); }  // error: calls itself
static uint odd(uint n) { return n == 0 ? 0 : even(n - 1); }
// Not recursion: another function of the same name.
static uint half_of(uint n) { return n / 2; }
static uint half_of(int n) { return half_of(uint(n)); }

kernel void generic_space(device float* x [[buffer(0)]], constant Parameters& p [[buffer(1)]],
                          device const Parameters* many [[buffer(2)]],
                          uint i [[thread_index_in_threadgroup]]) {
  const float* q = x;  // error: 'q' needs an address space
  const float& element = x[1];  // error: 'element' needs an address space
  auto right = x + 1;
  Parameters own = many[0];
  x[0] = q[0] + element + first(x) + value(own) + load(x) + right[0];
  x[1] = own.twice();
  x[2] = many[1].twice();  // error: twice() is not declared for an object in global memory
  auto added = [](float a) { return a + 1.0f; };  // error: a lambda
  x[3] = added(1.0f) + count_down(3) + even(4) + half_of(3);
}

kernel void much_memory(device float* x [[buffer(0)]],  // error: declares 33024 bytes of threadgroup memory
                        uint i [[thread_index_in_threadgroup]]) {
  threadgroup float first_half[4096];
  threadgroup float4 second_half[1024];
  threadgroup half more[128];
  first_half[i] = x[i];
  second_half[i] = x[i];
  more[i] = x[i];
}
kernel void all_of_the_memory(device float* x [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
  threadgroup float values[8192];
  values[i] = x[i];
}
