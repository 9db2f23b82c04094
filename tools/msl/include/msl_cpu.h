// The CPU dialect: what has to be known before the types are.
#pragma once

#include <type_traits>

#include "backend/gpu/emulated/gpu_thread.h"
#include "backend/gpu/emulated/machine.h"
#include "msl_half.h"

namespace msl = gander::msl;

// One memory: the address spaces say nothing here. The checker is who reads them.
#define device
#define threadgroup
#define constant const
#define thread
#define kernel
#define MSL_EACH_SPACE(X) X()

#define MSL_FUNCTION inline __attribute__((always_inline))
#define MSL_MEMBER __attribute__((always_inline))

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using std::int16_t;
using std::int32_t;
using std::int64_t;
using std::int8_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// The C library has functions of these names in the global namespace, and libc++ overloads them.
#define ceil ceil_
#define copysign copysign_
#define fabs fabs_
#define floor floor_
#define fma fma_
#define fmax fmax_
#define fmin fmin_
#define rint rint_
#define round round_
#define trunc trunc_

// Parameters, function constants and group variables: see translate.py.
#define MSL_BUFFER(index) = msl::buffer(index)
#define MSL_GROUP_MEMORY(index) = msl::group_memory(index)
#define MSL_BUILTIN(attribute) = msl::attribute()
#define MSL_FUNCTION_CONSTANT(type, name, index) thread_local type name;
#define MSL_GROUP_VARIABLE(name, dimensions, ...) \
  using name##_type_ = __VA_ARGS__ dimensions;    \
  static char name##_key_;                        \
  name##_type_& name =                            \
      *static_cast<name##_type_*>(msl::group_variable(&name##_key_, sizeof(name##_type_)))

// A file lies in a namespace of its own, so that files may use the same names for different things.
#define MSL_BEGIN_FILE namespace {
#define MSL_CONSTANT_VALUES(...)                               \
  void set_constants_(const msl::FunctionConstants& values_) { \
    __VA_ARGS__                                                \
  }
#define MSL_CONSTANT_VALUE(name, index) msl::set_constant(name, values_.bits[index]);
#define MSL_USES(index) | std::uint64_t{1} << (index)
#define MSL_ENTRY(name, buffers, uses, ...)                                                \
  const bool name##_registered_ = msl::register_kernel(                                    \
      {#name, [] { __VA_ARGS__(); }, buffers, msl::written_buffers(&__VA_ARGS__, buffers), \
       msl::element_bytes(&__VA_ARGS__, buffers), std::uint64_t{0} MSL_UNPACK_ uses,       \
       set_constants_});
#define MSL_UNPACK_(...) __VA_ARGS__
#define MSL_END_FILE(id) \
  }                      \
  extern "C" void gander_kernels_##id() {}

namespace gander::msl {

inline void set_constant(bool& constant_, std::uint32_t bits) {
  constant_ = bits != 0;
}
template <class T>
void set_constant(T& constant_, std::uint32_t bits) {
  static_assert(sizeof(T) == sizeof bits, "function constants have 32 bits, or are bool");
  __builtin_memcpy(&constant_, &bits, sizeof bits);
}

/// What a buffer parameter is an array of, or the structure it refers to.
template <class Parameter>
using Element = std::remove_pointer_t<std::remove_reference_t<Parameter>>;

/// Bit i: the kernel can write to its i-th parameter, one of the `count` buffers that come first.
template <class... Parameters>
std::uint32_t written_buffers(void (*)(Parameters...), std::uint32_t count) {
  const bool writable[] = {!std::is_const_v<Element<Parameters>>...};
  std::uint32_t mask = 0;
  for (std::uint32_t i = 0; i < count; ++i) mask |= static_cast<std::uint32_t>(writable[i]) << i;
  return mask;
}

template <class... Parameters>
std::array<std::uint32_t, 31> element_bytes(void (*)(Parameters...), std::uint32_t count) {
  const std::uint32_t sizes[] = {sizeof(Element<Parameters>)...};
  std::array<std::uint32_t, 31> bytes = {};
  for (std::uint32_t i = 0; i < count; ++i) bytes[i] = sizes[i];
  return bytes;
}

}  // namespace gander::msl
