// Mistakes that clang's front end rejects. Each line with one says what the checker must answer.
#include <metal_stdlib>
using namespace metal;

struct Parameters {
  uint rows;
};
struct Block {
  half scale;
  uchar levels[32];
};
constant uint width [[function_constant(0)]];

static float of_device(device const float* x) { return x[0]; }
static float of_group(threadgroup const float* x) { return x[0]; }
static float of_thread(thread const float* x) { return x[0]; }
static float of_constant(constant Parameters& p) { return float(p.rows); }
static float of_block(device const Block& b) { return float(b.scale); }
template <class T>
static void add_one(device T* x) { x[0] += T(1); }  // error: not assignable

kernel void spaces(device float* x [[buffer(0)]], device const float* fixed [[buffer(1)]],
                   device const Block* blocks [[buffer(2)]], constant Parameters& p [[buffer(3)]],
                   threadgroup float* scratch [[threadgroup(0)]],
                   uint i [[thread_index_in_threadgroup]]) {
  float own[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  Parameters copied = p;  // error: no matching constructor
  x[0] = of_group(x);  // error: no matching function
  x[1] = of_device(scratch);  // error: no matching function
  x[2] = of_thread(x);  // error: no matching function
  x[3] = of_device(own);  // error: no matching function
  x[4] = of_constant(copied);  // error: no matching function
  x[5] = of_device(&own[1]);  // error: no matching function
  x[6] = of_group(&fixed[1]);  // error: no matching function
  add_one(scratch);  // error: no matching function
  add_one(fixed);  // wrong in add_one
  Block local_block = blocks[0];
  x[7] = of_block(local_block);  // error: no matching function
  device float* moved = scratch;  // error: cannot initialize a variable of type '__global float
  threadgroup float* other = x;  // error: cannot initialize a variable of type '__local float
  thread float* mine = x;  // error: cannot initialize a variable of type '__private float
  device float* writable = fixed;  // error: cannot initialize a variable of type '__global float
  x[8] = ((threadgroup float*)fixed)[0];  // error: C-style cast
  x[9] = reinterpret_cast<device float*>(scratch)[0];  // error: reinterpret_cast
  device float& element = scratch[0];  // error: changes address space
  fixed[0] = 1.0f;  // error: not assignable
  p.rows = 1;  // error: read-only
  width = 4;  // error: read-only
}
