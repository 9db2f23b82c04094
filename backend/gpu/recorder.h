#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/model_weights.h"
#include "backend/gpu/program.h"
#include "model/config.h"

namespace gander::gpu {

// Parameter structs of the kernels, as C++ sees them.
using uint = std::uint32_t;
#include "kernels/parameters.h"

// A binding that is read whole, written whole, or both.
inline Binding in(const View& view) {
  return {view, view.size, 0};
}
inline Binding out(const View& view) {
  return {view, 0, view.size};
}
inline Binding in_out(const View& view) {
  return {view, view.size, view.size};
}

/// Bit of a type in GANDER_WEIGHT_TYPES.
constexpr std::uint32_t type_bit(DataType type) {
  return 1U << static_cast<std::uint32_t>(type);
}
constexpr std::uint32_t type_number(const MatrixView& matrix) {
  return static_cast<std::uint32_t>(matrix.type);
}
/// Bits of all types of the matrices that have rows.
std::uint32_t type_bits(std::initializer_list<const MatrixView*> matrices);

/// Function constants of a model's kernels, for matrices of the types in `weight_types`.
std::vector<FunctionConstant> model_constants(const Config& config, std::uint32_t weight_types);

/// Threads, groups and memory of a launch.
struct Launch {
  std::array<std::uint32_t, 2> groups = {1, 1};
  std::uint32_t threads = 256;     ///< fewer when the pipeline allows no more
  std::uint32_t group_memory = 0;  ///< bytes, rounded up to 16
  /// Beside those of the model.
  std::vector<FunctionConstant> constants = {};
};

/// Appends dispatches of one model's kernels to programs. Throws Error when a kernel needs more
/// than the device has.
class Recorder {
 public:
  Recorder(Device& device, const Config& config) : device_(device), config_(config) {}

  template <typename Parameters>
  void record(Program& program, std::string_view kernel, std::uint32_t layer,
              std::uint32_t weight_types, std::vector<Binding> bindings,
              const Parameters& parameters, const Launch& launch) const {
    std::vector<std::byte> bytes(sizeof(Parameters));
    std::memcpy(bytes.data(), &parameters, sizeof(Parameters));
    append(program, kernel, layer, weight_types, std::move(bindings), std::move(bytes), launch);
  }
  void record(Program& program, std::string_view kernel, std::uint32_t layer,
              std::uint32_t weight_types, std::vector<Binding> bindings,
              const Launch& launch) const {
    append(program, kernel, layer, weight_types, std::move(bindings), {}, launch);
  }

  const Config& config() const { return config_; }
  Device& device() const { return device_; }

 private:
  void append(Program& program, std::string_view kernel, std::uint32_t layer,
              std::uint32_t weight_types, std::vector<Binding> bindings,
              std::vector<std::byte> parameters, const Launch& launch) const;

  Device& device_;
  Config config_;
};

}  // namespace gander::gpu
