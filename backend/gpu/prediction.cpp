#include "backend/gpu/prediction.h"

#include <array>
#include <cstring>

#include "backend/gpu/model_weights.h"
#include "model/state.h"

namespace gander::gpu {

namespace {

// Of the bytes of a transposed matrix of this type, those that every block needs, whatever is zero
// in it: its scales. The tables are in kernels/README.md.
double share_of_scales(DataType type) {
  switch (type) {
    case DataType::Q8_0:
      return 2.0 / (32 + 2);
    case DataType::Q4_0:
      return 2.0 / (16 + 2);
    case DataType::Q4_K:
      return (8 * 2 + 4.0) / (128 + 8 * 2 + 4);
    case DataType::Q5_K:
      return (8 * 2 + 4.0) / (128 + 32 + 8 * 2 + 4);
    case DataType::Q6_K:
      return (16 + 2.0) / (128 + 64 + 16 + 2);
    default:
      return 0;
  }
}

DataType value_type(const Dispatch& ffn_value) {
  std::uint32_t type = 0;  // the first of FfnValueParameters
  std::memcpy(&type, ffn_value.parameters.data(), sizeof(type));
  return static_cast<DataType>(type);
}

}  // namespace

std::span<const AppleChip> apple_chips() {
  static constexpr std::array kChips = {
      AppleChip{"M1", 68e9},        AppleChip{"M1 Pro", 200e9},   AppleChip{"M1 Max", 400e9},
      AppleChip{"M1 Ultra", 800e9}, AppleChip{"M2", 100e9},       AppleChip{"M2 Pro", 200e9},
      AppleChip{"M2 Max", 400e9},   AppleChip{"M2 Ultra", 800e9}, AppleChip{"M3", 100e9},
      AppleChip{"M3 Pro", 150e9},   AppleChip{"M3 Max", 400e9},   AppleChip{"M3 Ultra", 819e9},
      AppleChip{"M4", 120e9},       AppleChip{"M4 Pro", 273e9},   AppleChip{"M4 Max", 546e9},
      AppleChip{"M5", 153e9}};
  return kChips;
}

double share_of_value_read(DataType type, double active) {
  const double scales = share_of_scales(type);
  return scales + (1 - scales) * active;
}

double moved_bytes(const Dispatch& dispatch, double active) {
  const auto all = static_cast<double>(dispatch.bytes_read() + dispatch.bytes_written());
  if (dispatch.kernel != "ffn_value") return all;
  const auto matrix = static_cast<double>(dispatch.bindings[1].reads);
  return all - matrix * (1 - share_of_value_read(value_type(dispatch), active));
}

double predicted_tokens_per_second(const Program& program, const AppleChip& chip, double active) {
  double bytes = 0;
  for (const Dispatch& dispatch : program.dispatches) bytes += moved_bytes(dispatch, active);
  const double seconds = bytes / (kPredictedShare * chip.bytes_per_second) +
                         kPredictedDispatch * static_cast<double>(program.dispatches.size());
  return 1 / seconds;
}

std::uint64_t least_bytes_read(const Weights& weights) {
  std::uint64_t bytes = bytes_per_token(weights) + State(weights.config).values().size_bytes();
  const std::uint64_t width = weights.config.width;
  // ln0, ln_out; a layer's ln1, ln2, ln_x, six lerps and one, w0, a0, v0, k_k, k_a, r_k.
  bytes += sizeof(float) * width * (4 + std::uint64_t{weights.config.layers} * (6 + 7 + 6));
  return bytes;
}

}  // namespace gander::gpu
