#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "backend/gpu/gpu_backend.h"

// What it costs to wait for a GPU: the same tokens, handed over and waited for in different ways.
namespace gander::gpu {

/// A token of one way: averages over a generation.
struct SyncCost {
  std::string_view kernels;  ///< "unfused": the list of small kernels; "stages", or "token kernel"
  SyncMode mode = SyncMode::Async;
  double seconds = 0;  ///< the median of some runs
  double submissions = 0, waits = 0, dispatches = 0;
  /// Of the seconds, those that the same kernels take longer than when they are queued ahead.
  double waiting = 0;
};

/// Tokens between two waits when they are queued ahead; as many again are under way meanwhile.
inline constexpr std::uint32_t kSyncBlock = 8;

/// Generates `tokens` greedily after token 0, `runs` times after once for warming up, in every way
/// that the backend's program has: with the token kernel by token and queued ahead, else the
/// unfused list and the stages by dispatch, by layer, by token and queued ahead. Tokens are chosen
/// on the device in all of them, so that they differ in nothing but the waiting. The backend must
/// have a generator. `progress` gets the share done. The sequence is another one afterwards.
std::vector<SyncCost> measure_sync(GpuBackend& backend, std::uint32_t tokens, std::uint32_t runs,
                                   const std::function<void(double done)>& progress);

}  // namespace gander::gpu
