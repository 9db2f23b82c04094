#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/serving/request.h"

namespace gander {

/// What EngineStatistics are read from: written by the scheduler, read by anyone.
struct EngineCounters {
  std::atomic<std::uint32_t> free_slots{0};
  std::atomic<std::uint64_t> requests{0}, refused{0}, steps{0};
  std::atomic<std::uint64_t> prompt_tokens{0}, cached_tokens{0}, generated_tokens{0};
  std::array<std::atomic<std::uint64_t>, kFinishReasons> finished{};

  void count(const Finish& finish) { ++finished[static_cast<std::size_t>(finish.reason)]; }
};

}  // namespace gander
