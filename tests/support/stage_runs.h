#pragma once

#include <cstdint>
#include <vector>

#include "backend/gpu/device.h"
#include "tests/support/stage_case.h"

namespace gander::gpu {

/// How a stage is launched.
struct StageShape {
  std::uint32_t threads = 128;
  std::uint32_t rows = 16;  ///< of a group, where a group has rows
};

// Each kernel of the token program, alone, on the inputs of a StageCase. What it writes is
// returned; state that it updates, too.

std::vector<float> run_embed(Device& device, const StageCase& token, std::uint32_t threads);

struct TimeMixIn {
  std::vector<float> projected, low_rank, normalized;
  bool operator==(const TimeMixIn&) const = default;
};
/// In layer 0 the part of low_rank that is not written is set to zeros.
TimeMixIn run_time_mix_in(Device& device, const StageCase& token, std::uint32_t layer,
                          StageShape shape = {});

struct Wkv {
  std::vector<float> v_first, state, shift, gated;
  bool operator==(const Wkv&) const = default;
};
Wkv run_wkv(Device& device, const StageCase& token, std::uint32_t layer,
            std::uint32_t threads = 128);

/// x after the stage.
std::vector<float> run_time_mix_out(Device& device, const StageCase& token, std::uint32_t layer,
                                    StageShape shape = {});

struct FfnKey {
  std::vector<float> hidden, normalized;
  bool operator==(const FfnKey&) const = default;
};
FfnKey run_ffn_key(Device& device, const StageCase& token, std::uint32_t layer,
                   StageShape shape = {});

struct Head {
  std::vector<float> logits;
  std::vector<std::uint32_t> maxima;  ///< of each group two: ordered bits, token
  bool operator==(const Head&) const = default;
};
Head run_head(Device& device, const StageCase& token, StageShape shape = {});

struct FfnValueShape {
  std::uint32_t threads = 128;
  std::uint32_t slices = 1;
  bool adds_up = true;  ///< else add_slices runs after it
};
struct FfnValue {
  std::vector<float> x, shift;
  std::vector<std::uint32_t> counters;
  bool operator==(const FfnValue&) const = default;
};
/// Stage E of any sizes; `x` is before it, `normalized` goes to the shift.
FfnValue run_ffn_value(Device& device, const Matrix& value, const std::vector<float>& hidden,
                       const std::vector<float>& normalized, const std::vector<float>& x,
                       FfnValueShape shape = {});

}  // namespace gander::gpu
