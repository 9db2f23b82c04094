// The checker's dialect: Metal's address spaces are OpenCL's, which clang knows.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable

#define device __global
#define threadgroup __local
#define constant __constant
#define thread __private
#define kernel
#define MSL_EACH_SPACE(X) X(device) X(threadgroup)

#define MSL_FUNCTION inline
#define MSL_MEMBER

// Names that clang has already for OpenCL.
#define atomic_int metal_atomic_int_
#define atomic_uint metal_atomic_uint_
#define atomic_float metal_atomic_float_
#define atomic_bool metal_atomic_bool_
#define atomic_ulong metal_atomic_ulong_
#define memory_order metal_memory_order_
#define memory_order_relaxed metal_memory_order_relaxed_
#define memory_order_seq_cst metal_memory_order_seq_cst_

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;

#define MSL_BUFFER(index) = msl::Buffer()
#define MSL_GROUP_MEMORY(index) = msl::GroupMemory()
#define MSL_BUILTIN(attribute) = msl::attribute()
// Not a constant expression: its value is only known to the pipeline.
#define MSL_FUNCTION_CONSTANT(type, name, index) extern __constant type name;
#define MSL_GROUP_VARIABLE(name, dimensions, ...) \
  using name##_type_ = __VA_ARGS__ dimensions;    \
  enum { name##_bytes_ = sizeof(name##_type_) };  \
  __local name##_type_& name = *(__local name##_type_*)1

#define MSL_BEGIN_FILE
#define MSL_CONSTANT_VALUES(...)
#define MSL_ENTRY(name, buffers, uses, ...) \
  inline void name##_entry_() {             \
    __VA_ARGS__();                          \
  }
#define MSL_END_FILE(id)
