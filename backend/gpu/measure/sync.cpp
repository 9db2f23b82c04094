#include "backend/gpu/measure/sync.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "backend/gpu/unfused_dispatcher.h"
#include "base/median.h"

namespace gander::gpu {

namespace {

struct Way {
  std::string_view kernels;
  const Program* program;  // ends with the choice of the token that the next one begins with
  SyncMode mode;
};

// Token i is waited for when the one a block later is queued.
void generate(Device& device, const Way& way, std::uint32_t tokens) {
  std::array<std::uint64_t, 2> queued = {};  // last submission of each of two blocks
  for (std::uint32_t i = 0; i < tokens; ++i) {
    std::uint64_t& block = queued[i / kSyncBlock % queued.size()];
    if (i % kSyncBlock == 0) device.wait(block);
    const bool ends_block = (i + 1) % kSyncBlock == 0 || i + 1 == tokens;
    if (way.mode == SyncMode::Async && !ends_block) {
      device.queue(way.program->dispatches);
    } else {
      block = run(device, way.program->dispatches, way.mode);
    }
  }
  device.wait(std::max(queued[0], queued[1]));
}

double generate_seconds(GpuBackend& backend, const Way& way, std::uint32_t tokens) {
  constexpr TokenId kFirst = 0;
  backend.reset();
  start_fresh(*backend.generator(), {.temperature = 0.0F}, backend.config().vocab_size);
  backend.device().write(backend.memory().buffers.token, std::as_bytes(std::span(&kFirst, 1)));
  const auto begin = std::chrono::steady_clock::now();
  generate(backend.device(), way, tokens);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

SyncCost cost_of(GpuBackend& backend, const Way& way, std::uint32_t tokens, std::uint32_t runs,
                 const std::function<void()>& ran) {
  SyncCost cost = {.kernels = way.kernels, .mode = way.mode};
  std::vector<double> seconds;
  for (std::uint32_t i = 0; i <= runs; ++i) {
    const DeviceCounters before = backend.device().counters();
    const double taken = generate_seconds(backend, way, tokens);
    ran();
    if (i == 0) continue;  // the first is a warm-up
    seconds.push_back(taken / tokens);
    const DeviceCounters& after = backend.device().counters();
    const auto each = [&](auto count) {
      return static_cast<double>(after.*count - before.*count) / tokens;
    };
    cost.submissions = each(&DeviceCounters::submissions);
    cost.waits = each(&DeviceCounters::waits);
    cost.dispatches = each(&DeviceCounters::dispatches);
  }
  cost.seconds = median(std::move(seconds));
  return cost;
}

// The unfused list, with the choice that ends the stages' program.
Program unfused_program(GpuBackend& backend, const Dispatch& sample) {
  const UnfusedBuffers buffers = make_unfused_buffers(backend.config(), backend.device());
  Program program =
      record_unfused_token(backend.config(), backend.memory(), buffers, backend.shapes(),
                           backend.device(), backend.memory().buffers.token);
  program.dispatches.push_back(sample);
  return program;
}

}  // namespace

std::vector<SyncCost> measure_sync(GpuBackend& backend, std::uint32_t tokens, std::uint32_t runs,
                                   const std::function<void(double done)>& progress) {
  const auto& generator = dynamic_cast<const GpuGenerator&>(*backend.generator());
  const Program& token = generator.token_program();
  std::vector<Way> ways;
  Program unfused;
  if (backend.persistent() != nullptr) {
    for (const SyncMode mode : {SyncMode::Token, SyncMode::Async}) {
      ways.push_back({"token kernel", &token, mode});
    }
  } else {
    unfused = unfused_program(backend, token.dispatches.back());
    for (const auto& [kernels, program] :
         {std::pair{"unfused", &std::as_const(unfused)}, std::pair{"stages", &token}}) {
      for (const SyncMode mode :
           {SyncMode::Op, SyncMode::Layer, SyncMode::Token, SyncMode::Async}) {
        ways.push_back({kernels, program, mode});
      }
    }
  }
  std::vector<SyncCost> costs;
  costs.reserve(ways.size());
  const double steps = static_cast<double>(ways.size()) * (runs + 1);
  double done = 0;
  for (const Way& way : ways) {
    costs.push_back(cost_of(backend, way, tokens, runs, [&] { progress(++done / steps); }));
  }
  for (SyncCost& cost : costs) {
    const auto ahead = std::ranges::find_if(costs, [&](const SyncCost& other) {
      return other.kernels == cost.kernels && other.mode == SyncMode::Async;
    });
    cost.waiting = std::max(0.0, cost.seconds - ahead->seconds);
  }
  return costs;
}

}  // namespace gander::gpu
