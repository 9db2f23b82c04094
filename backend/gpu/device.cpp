#include "backend/gpu/device.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"

namespace gander::gpu {

std::uint64_t Dispatch::bytes_read() const {
  return std::accumulate(bindings.begin(), bindings.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const Binding& b) { return sum + b.reads; });
}

std::uint64_t Dispatch::bytes_written() const {
  return std::accumulate(bindings.begin(), bindings.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const Binding& b) { return sum + b.writes; });
}

void Device::clear(const View& view) {
  static constexpr std::array<std::byte, 1U << 16> kZeros = {};
  for (std::uint64_t begin = 0; begin < view.size; begin += kZeros.size()) {
    const std::uint64_t bytes = std::min<std::uint64_t>(kZeros.size(), view.size - begin);
    write(view.part(begin, bytes), std::span(kZeros).first(bytes));
  }
}

void Device::copy(const View&, const View&) {
  fail("{} copies nothing by itself: read and write", info().name);
}

void Device::read_aside(const View&, std::span<std::byte>) const {
  fail("{} copies nothing aside: read", info().name);
}

void Device::write_aside(const View&, std::span<const std::byte>) {
  fail("{} copies nothing aside: write", info().name);
}

std::uint64_t Device::fill_bytes(std::span<const View> views) {
  std::uint64_t bytes = 0;
  for (const View& view : views) bytes += view.size;
  if (bytes > kFillBytes) {
    fail("{} bytes to fill at once, at most {} can be: take smaller pieces", bytes, kFillBytes);
  }
  return bytes;
}

void Device::fill(std::span<const View> views, const Produce& produce) {
  filled_.resize(fill_bytes(views));
  produce(filled_);
  std::size_t begin = 0;
  for (const View& view : views) {
    write(view, std::span(filled_).subspan(begin, view.size));
    begin += view.size;
  }
}

void Device::finish_fills() {
  filled_ = {};
}

}  // namespace gander::gpu
