#include "tests/metal_standin/library.h"

#include "backend/gpu/kernel_source.h"
#include "tests/metal_standin/counting.h"

#include <algorithm>
#include <cstring>
#include <regex>

namespace gander::standin {
namespace {

constexpr char kLibraryDomain[] = "MTLLibraryErrorDomain";
constexpr long kCompileFailure = 3, kFunctionNotFound = 5;

constexpr UInteger kMetal31 = (3 << 16) + 1, kMetal32 = (3 << 16) + 2, kMetal40 = 4 << 16;

UInteger newest_language_version() {
  const int macos = settings().macos_version;
  return macos >= 26 ? kMetal40 : macos >= 15 ? kMetal32 : kMetal31;
}

// The first line in which two texts differ, from 1.
std::size_t first_difference(std::string_view a, std::string_view b) {
  const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(std::count(a.begin(), at, '\n')) + 1;
}

std::string_view name_of(DataType type) {
  switch (type) {
    case DataType::Float:
      return "float";
    case DataType::Int:
      return "int";
    case DataType::UInt:
      return "uint";
    case DataType::Bool:
      return "bool";
  }
  return "unknown";
}

struct DeclaredConstant {
  std::string type, name;
};

// The function constants that the kernels declare, by their numbers.
const std::map<std::uint32_t, DeclaredConstant>& declared_constants() {
  static const auto found = [] {
    const std::string text(gpu::kernel_source());
    const std::regex define(R"(#define\s+(\w+)\s+(\d+))");
    const std::regex declaration(
        R"(constant\s+(\w+)\s+(\w+)\s*\[\[\s*function_constant\(\s*(\w+)\s*\)\s*\]\])");
    std::map<std::string, std::string> defined;
    for (std::sregex_iterator i(text.begin(), text.end(), define), end; i != end; ++i) {
      defined[(*i)[1]] = (*i)[2];
    }
    std::map<std::uint32_t, DeclaredConstant> constants;
    for (std::sregex_iterator i(text.begin(), text.end(), declaration), end; i != end; ++i) {
      const std::string index = (*i)[3];
      const auto number = defined.find(index);
      const std::string& digits = number == defined.end() ? index : number->second;
      constants[static_cast<std::uint32_t>(std::stoul(digits))] = {(*i)[1], (*i)[2]};
    }
    return constants;
  }();
  return found;
}

}  // namespace

FunctionConstantValues::FunctionConstantValues() : Object(kClass) {}

void FunctionConstantValues::set(const void* value, DataType type, UInteger index) {
  if (name_of(type) == "unknown") {
    misuse("setConstantValue:type:atIndex:{}: {} is no MTLDataType of a scalar the kernels use",
           index, static_cast<UInteger>(type));
  }
  ConstantValue constant{type, 0};
  std::memcpy(&constant.bits, value, type == DataType::Bool ? 1 : sizeof(constant.bits));
  values_.insert_or_assign(static_cast<std::uint32_t>(index), constant);
}

CompileOptions::CompileOptions() : Object(kClass) {}

void CompileOptions::set_math_mode(long mode) {
  if (mode < 0 || mode > 2) misuse("setMathMode:{}: 0 is safe, 1 relaxed, 2 fast", mode);
}

void CompileOptions::set_math_functions(long functions) {
  if (functions < 0 || functions > 1) {
    misuse("setMathFloatingPointFunctions:{}: 0 is fast, 1 precise", functions);
  }
}

Library::Library(Ref<Device> device, UInteger language_version)
    : Labelled(kClass), device_(std::move(device)), language_version_(language_version) {
  msl::link_kernels();
}

Object* Library::new_function(String* name, FunctionConstantValues* values, Error** error) {
  const std::string wanted = text_of(name);
  const msl::Kernel* kernel = msl::find_kernel(wanted);
  if (kernel == nullptr) {
    return fail_with(error, kLibraryDomain, kFunctionNotFound,
                     fmt::format("Function {} was not found in the library", wanted));
  }
  const ConstantValues constants = values == nullptr ? ConstantValues{} : values->values();
  for (const auto& [index, declared] : declared_constants()) {
    if ((kernel->constants >> index & 1U) == 0) continue;
    const auto given = constants.find(index);
    if (given == constants.end()) {
      return fail_with(error, kLibraryDomain, kCompileFailure,
                       fmt::format("Function {} needs the function constant {} [[function_constant"
                                   "({})]], which has no value",
                                   wanted, declared.name, index));
    }
    if (name_of(given->second.type) != declared.type) {
      return fail_with(
          error, kLibraryDomain, kCompileFailure,
          fmt::format("Function constant {} [[function_constant({})]] is of type {}, its value of "
                      "type {}",
                      declared.name, index, declared.type, name_of(given->second.type)));
    }
  }
  return owned(make<Function>(device_, *kernel, constants));
}

Object* Library::new_plain_function(String* name) {
  return new_function(name, nullptr, nullptr);
}

Function::Function(Ref<Device> device, const msl::Kernel& kernel, ConstantValues constants)
    : Labelled(kClass),
      device_(std::move(device)),
      kernel_(kernel),
      constants_(std::move(constants)) {}

String* Function::get_name() {
  return autoreleased(string(kernel_.name));
}

Object* compile(Ref<Device> device, String* source, Object* options, Error** error) {
  msl::link_kernels();
  const std::string text = text_of(source);
  const std::string_view kernels = gpu::kernel_source();
  if (failures().compile) {
    return fail_with(error, kLibraryDomain, kCompileFailure,
                     "program_source:12:7: error: use of undeclared identifier 'planted'\n"
                     "  x = planted;\n      ^\n");
  }
  if (text != kernels) {
    return fail_with(error, kLibraryDomain, kCompileFailure,
                     fmt::format("program_source:{}:1: error: not the text of the kernels",
                                 first_difference(text, kernels)));
  }
  UInteger version = newest_language_version();
  if (options != nullptr) {
    const UInteger wanted = static_cast<CompileOptions*>(options)->language_version();
    if (wanted > version) {
      return fail_with(error, kLibraryDomain, kCompileFailure,
                       fmt::format("language version {}.{} is not supported on this OS",
                                   wanted >> 16, wanted & 0xffff));
    }
    if (wanted != 0) version = wanted;
  }
  count(&Counters::libraries);
  return owned(make<Library>(std::move(device), version));
}

const Class FunctionConstantValues::kClass{
    "MTLFunctionConstantValues",
    {method<&FunctionConstantValues::set>("setConstantValue:type:atIndex:")},
    {method<&allocate<FunctionConstantValues>>("alloc"),
     method<&allocate<FunctionConstantValues>>("new")}};

const Class CompileOptions::kClass{
    "MTLCompileOptions",
    {method<&CompileOptions::set_language_version>("setLanguageVersion:"),
     method<&CompileOptions::set_fast_math>("setFastMathEnabled:"),
     method<&CompileOptions::set_math_mode>("setMathMode:", 15),
     method<&CompileOptions::set_math_functions>("setMathFloatingPointFunctions:", 15)},
    {method<&allocate<CompileOptions>>("alloc"), method<&allocate<CompileOptions>>("new")}};

const Class Library::kClass{
    "MTLLibrary",
    {method<&Library::set_label>("setLabel:"), method<&Library::get_label>("label"),
     method<&Library::new_plain_function>("newFunctionWithName:"),
     method<&Library::new_function>("newFunctionWithName:constantValues:error:")}};

const Class Function::kClass{
    "MTLFunction",
    {method<&Function::set_label>("setLabel:"), method<&Function::get_label>("label"),
     method<&Function::get_name>("name")}};

}  // namespace gander::standin
