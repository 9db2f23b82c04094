#pragma once

#include "backend/gpu/emulated/machine.h"
#include "tests/metal_standin/buffer.h"

#include <map>

namespace gander::standin {

/// MTLDataType, as far as function constants use it.
enum class DataType : UInteger { Float = 3, Int = 29, UInt = 33, Bool = 53 };

/// The value of a function constant.
struct ConstantValue {
  DataType type;
  std::uint32_t bits;

  bool operator==(const ConstantValue&) const = default;
};
using ConstantValues = std::map<std::uint32_t, ConstantValue>;

class FunctionConstantValues : public Object {
 public:
  FunctionConstantValues();
  const ConstantValues& values() const { return values_; }

 private:
  void set(const void* value, DataType type, UInteger index);
  static const Class kClass;

  ConstantValues values_;
};

class CompileOptions : public Object {
 public:
  CompileOptions();
  UInteger language_version() const { return language_version_; }

 private:
  void set_language_version(UInteger version) { language_version_ = version; }
  void set_fast_math(bool) {}
  void set_math_mode(long mode);
  void set_math_functions(long functions);
  static const Class kClass;

  [[maybe_unused]] UInteger language_version_ = 0;  ///< 0: the newest
};

/// id<MTLLibrary>: the project's kernels, which the emulation has compiled in.
class Library : public Labelled {
 public:
  Library(Ref<Device> device, UInteger language_version);

 private:
  Object* new_function(String* name, FunctionConstantValues* values, Error** error);
  Object* new_plain_function(String* name);
  static const Class kClass;

  Ref<Device> device_;
  [[maybe_unused]] UInteger language_version_;
};

/// id<MTLFunction>: a kernel with its function constants.
class Function : public Labelled {
 public:
  Function(Ref<Device> device, const msl::Kernel& kernel, ConstantValues constants);

  const msl::Kernel& kernel() const { return kernel_; }
  std::string name() const { return std::string(kernel_.name); }
  const ConstantValues& constants() const { return constants_; }

 private:
  String* get_name();
  static const Class kClass;

  Ref<Device> device_;
  const msl::Kernel& kernel_;
  ConstantValues constants_;
};

/// newLibraryWithSource:options:error: accepts the project's kernels and nothing else.
Object* compile(Ref<Device> device, String* source, Object* options, Error** error);

}  // namespace gander::standin
