#pragma once

#include <cstdint>

namespace gander::gpu {

/// The first multiple of `unit` that is not less than `count`.
constexpr std::uint32_t round_up(std::uint32_t count, std::uint32_t unit) {
  return (count + unit - 1) / unit * unit;
}

}  // namespace gander::gpu
