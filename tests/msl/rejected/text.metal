// Mistakes that are seen in the text.
#include <metal_stdlib>
using namespace metal;

struct Nested {
  threadgroup float* pointer;
};
struct Pointers {
  device float* right;
  Nested nested;
};
struct Plain {
  uint n;
};

kernel int returns(device float* x [[buffer(0)]]) { return 1; }  // error: kernels return void
kernel void no_attribute(device float* x [[buffer(0)]],
                         uint i) {}  // error: parameter 'uint i' has no attribute
kernel void unknown_attribute(device float* x [[buffer(0)]],
                              uint i [[thread_index_in_group]]) {}  // error: unknown attribute
kernel void twice_the_same(device float* x [[buffer(0)]],
                           device float* y [[buffer(0)]]) {}  // error: expected 1
kernel void leaves_out(device float* x [[buffer(0)]],
                       device float* y [[buffer(2)]]) {}  // error: expected 1
kernel void by_value(device float* x [[buffer(0)]],
                     Plain p [[buffer(1)]]) {}  // error: needs device or constant
kernel void bound_pointers(device float* x [[buffer(0)]],
                           constant Pointers& p [[buffer(1)]]) {}  // error: Nested has a threadgroup pointer
kernel void two_scratches(threadgroup float* s [[threadgroup(0)]],
                          threadgroup float* t [[threadgroup(1)]]) {}  // error: one thread-group pointer
kernel void same_name(device float* x [[buffer(0)]]) {}
kernel void same_name(device float* x [[buffer(0)]]) {}  // error: another kernel same_name
template <class T>
kernel void never_used(device T* x [[buffer(0)]]) {}  // error: never instantiated

static float helper() {
  threadgroup float values[4];  // error: outside a kernel
  return values[0];
}
// Words in comments and strings are no mistakes: double, goto, 1.0, msl::x.
kernel void words(device float* x [[buffer(0)]]) {
  double wide = x[0];  // error: no double
  goto end;  // error: no goto
  x[0] = 0.5;  // error: needs the suffix f
  x[1] = 1e3;  // error: needs the suffix f
  x[2] = half(0.5h);  // error: half literal
  x[3] = std::max(1.0f, x[0]);  // error: no C++ library
  x[4] = msl::lane();  // error: dialect header
  x[5] = lane_();  // error: dialect header
  x[6] = __builtin_expf(x[0]);  // error: not a name for kernels
  x[7] = 1.0f + 1e-3f + 0x1ep3f + .5f + float(0x10) + float(10);
end:
  return;
}
kernel void many(device float* a0 [[buffer(0)]], device float* a1 [[buffer(1)]],  // error: 32 buffers
    device float* a2 [[buffer(2)]], device float* a3 [[buffer(3)]], device float* a4 [[buffer(4)]],
    device float* a5 [[buffer(5)]], device float* a6 [[buffer(6)]], device float* a7 [[buffer(7)]],
    device float* a8 [[buffer(8)]], device float* a9 [[buffer(9)]], device float* b0 [[buffer(10)]],
    device float* b1 [[buffer(11)]], device float* b2 [[buffer(12)]], device float* b3 [[buffer(13)]],
    device float* b4 [[buffer(14)]], device float* b5 [[buffer(15)]], device float* b6 [[buffer(16)]],
    device float* b7 [[buffer(17)]], device float* b8 [[buffer(18)]], device float* b9 [[buffer(19)]],
    device float* c0 [[buffer(20)]], device float* c1 [[buffer(21)]], device float* c2 [[buffer(22)]],
    device float* c3 [[buffer(23)]], device float* c4 [[buffer(24)]], device float* c5 [[buffer(25)]],
    device float* c6 [[buffer(26)]], device float* c7 [[buffer(27)]], device float* c8 [[buffer(28)]],
    device float* c9 [[buffer(29)]], device float* d0 [[buffer(30)]], device float* d1 [[buffer(31)]]) {}
