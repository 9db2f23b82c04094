#include "backend/gpu/measure/bandwidth.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

#include "backend/gpu/primitives.h"

namespace gander::gpu {

namespace {

constexpr std::uint64_t kPieceBytes = 64 << 10;  // of a thread group
constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kEmulatedBytes = std::uint64_t{1} << 20;
constexpr int kReadings = 8;

// In whole pieces.
std::uint64_t buffer_bytes(const DeviceInfo& info) {
  std::uint64_t bytes = info.emulated ? kEmulatedBytes : kReadBytes;
  if (info.max_buffer_bytes > 0) bytes = std::min(bytes, info.max_buffer_bytes);
  if (info.working_set_bytes > 0) bytes = std::min(bytes, info.working_set_bytes / 4);
  return std::max(bytes / kPieceBytes, std::uint64_t{1}) * kPieceBytes;
}

Dispatch sum_of(Device& device, std::uint64_t bytes) {
  Dispatch dispatch;
  dispatch.kernel = "sum_words";
  const PipelineInfo pipeline = device.pipeline(dispatch.kernel, {});
  dispatch.pipeline = pipeline.id;
  dispatch.threads = std::bit_floor(std::min(pipeline.max_threads, 256U));
  dispatch.groups = {static_cast<std::uint32_t>(bytes / kPieceBytes), 1};
  const std::uint64_t sums =
      std::uint64_t{dispatch.groups[0]} * (dispatch.threads / 32) * sizeof(std::uint32_t);
  dispatch.bindings = {in({device.allocate(bytes, "memory to read"), 0, bytes}),
                       out({device.allocate(sums, "sums"), 0, sums})};
  const SumWordsParameters parameters = {kPieceBytes / 16};
  dispatch.parameters.resize(sizeof parameters);
  std::memcpy(dispatch.parameters.data(), &parameters, sizeof parameters);
  return dispatch;
}

}  // namespace

ReadBandwidth measure_read_bandwidth(Device& device) {
  const std::uint64_t bytes = buffer_bytes(device.info());
  // Several times in a submission: what handing it over takes is then little.
  const std::vector<Dispatch> passes(device.info().emulated ? 1 : 8, sum_of(device, bytes));
  double least = 0;
  for (int round = -1; round < kReadings; ++round) {  // the first is a warm-up
    const auto begin = std::chrono::steady_clock::now();
    device.wait(device.submit(passes));
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (round == 0 || (round > 0 && seconds < least)) least = seconds;
  }
  return {static_cast<double>(bytes * passes.size()) / least, bytes};
}

}  // namespace gander::gpu
