#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "tests/support/fake_cuda_driver.h"

namespace gander::gpu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CudaTransfers : public CudaDeviceTest {};

TEST_F(CudaTransfers, MemoryBeginsAsZerosAndKeepsWhatIsWritten) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(16, "numbers");
  device->write({buffer, 4, 4}, std::as_bytes(std::span("abc")));
  std::array<char, 16> read{};
  device->read({buffer, 0, 16}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(std::string_view(read.data(), 16), std::string_view("\0\0\0\0abc\0\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(device->allocated_bytes(), 16U);
  EXPECT_THAT(error_of([&] {
                device->write({buffer, 13, 4}, std::as_bytes(std::span("abc")));
              }),
              HasSubstr("4 bytes at 13 of a buffer of 16"));
}

// Several buffers' worth, and a part of one.
TEST_F(CudaTransfers, TransfersAside) {
  const auto device = open();
  EXPECT_TRUE(device->info().transfers_aside);
  constexpr std::size_t kNumbers = 1'000'000;
  constexpr std::uint64_t kBytes = kNumbers * sizeof(std::uint32_t);
  const std::uint32_t buffer = device->allocate(3 * kBytes, "numbers");
  const View first = {buffer, 0, kBytes}, second = {buffer, kBytes, kBytes};
  std::vector<std::uint32_t> numbers(kNumbers), read(kNumbers);
  for (std::uint32_t i = 0; i < kNumbers; ++i) numbers[i] = i * 2654435761U;
  device->write_aside(first, std::as_bytes(std::span(numbers)));
  record_.calls.clear();
  device->copy(first, second);
  EXPECT_THAT(record_.calls, ElementsAre("MemcpyDtoDAsync", "EventRecord"));
  record_.calls.clear();
  device->read_aside(second, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(record_.calls.front(), "StreamWaitEvent") << "for the copy";
  EXPECT_EQ(read, numbers);
  EXPECT_EQ(std::ranges::count(record_.calls, "MemHostAlloc"), 0) << "they were there";
  const std::string too_long = error_of([&] {
    device->read_aside({buffer, 3 * kBytes - 4, 8},
                       std::as_writable_bytes(std::span(read).first(2)));
  });
  EXPECT_THAT(too_long, HasSubstr("8 bytes at 11999996 of a buffer of 12000000"));
  record_.failures["MemcpyDtoHAsync"] = kIllegalAddress;
  EXPECT_THAT(
      error_of([&] { device->read_aside(second, std::as_writable_bytes(std::span(read))); }),
      HasSubstr("cuMemcpyDtoHAsync: CUDA_ERROR_X"));
}

TEST_F(CudaTransfers, ClearsWithoutCopying) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(16, "numbers");
  const std::array<std::uint32_t, 4> numbers = {1, 2, 3, 4};
  device->write({buffer, 0, 16}, std::as_bytes(std::span(numbers)));
  record_.calls.clear();
  device->clear({buffer, 4, 8});
  EXPECT_EQ(std::ranges::count(record_.calls, "MemcpyHtoDAsync"), 0);
  std::array<std::uint32_t, 4> read = {};
  device->read({buffer, 0, 16}, std::as_writable_bytes(std::span(read)));
  EXPECT_THAT(read, ElementsAre(1, 0, 0, 4));
}

TEST_F(CudaTransfers, FillsThroughLockedMemoryInTurn) {
  constexpr std::uint64_t kPiece = std::uint64_t{20} << 20;  // two do not fit in a buffer
  constexpr std::uint64_t kPieces = 5;
  const auto device = open();
  const std::uint32_t buffer = device->allocate(kPieces * kPiece, "weights");
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    const View view = {buffer, i * kPiece, kPiece};
    device->fill({&view, 1}, [&](std::span<std::byte> out) {
      ASSERT_EQ(out.size(), kPiece);
      std::memset(out.data(), static_cast<int>(i + 1), out.size());
    });
  }
  EXPECT_EQ(std::ranges::count(record_.calls, "MemHostAlloc"), 2);
  EXPECT_EQ(std::ranges::count(record_.calls, "EventSynchronize"), 3) << "for the third piece on";
  EXPECT_EQ(std::ranges::count(record_.calls, "StreamSynchronize"), 0);
  EXPECT_FALSE(record_.queued.empty()) << "the last is still being copied";
  device->finish_fills();
  EXPECT_EQ(std::ranges::count(record_.calls, "MemFreeHost"), 2);
  std::vector<std::byte> read(kPieces * kPiece);
  device->read({buffer, 0, read.size()}, read);
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    const std::span piece = std::span(read).subspan(i * kPiece, kPiece);
    EXPECT_EQ(piece.front(), static_cast<std::byte>(i + 1));
    EXPECT_EQ(std::memcmp(piece.data(), piece.data() + 1, piece.size() - 1), 0) << "all alike";
  }
}

TEST_F(CudaTransfers, SmallPiecesShareLockedMemory) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(4000, "vectors");
  for (std::uint32_t i = 0; i < 500; ++i) {
    // Two places, as the parts of a transposed matrix have.
    const std::array views = {View{buffer, 8 * i + 4, 4}, View{buffer, 8 * i, 4}};
    device->fill(views, [&](std::span<std::byte> out) {
      const std::array<std::uint32_t, 2> numbers = {2 * i + 1, 2 * i};
      ASSERT_EQ(out.size(), sizeof numbers);
      std::memcpy(out.data(), numbers.data(), sizeof numbers);
    });
  }
  EXPECT_EQ(std::ranges::count(record_.calls, "EventSynchronize"), 0);
  device->finish_fills();
  std::vector<std::uint32_t> read(1000);
  device->read({buffer, 0, 4000}, std::as_writable_bytes(std::span(read)));
  for (std::uint32_t i = 0; i < read.size(); ++i) ASSERT_EQ(read[i], i);
  const View large = {buffer, 0, Device::kFillBytes + 1};
  EXPECT_THAT(error_of([&] {
                device->fill({&large, 1}, [](std::span<std::byte>) {});
              }),
              HasSubstr("take smaller pieces"));
}

TEST_F(CudaTransfers, FillsWithoutLockedMemoryToo) {
  record_.failures["MemHostAlloc"] = cuda::kOutOfMemory;
  const auto device = open();
  const std::uint32_t buffer = device->allocate(8, "vectors");
  const std::array views = {View{buffer, 4, 4}, View{buffer, 0, 4}};
  device->fill(views, [](std::span<std::byte> out) { std::memcpy(out.data(), "abcdefgh", 8); });
  device->finish_fills();
  std::array<char, 8> read{};
  device->read({buffer, 0, 8}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(std::string_view(read.data(), 8), "efghabcd");
}

TEST_F(CudaTransfers, GivesLockedMemoryBackWhenLoadingIsGivenUp) {
  {
    const auto device = open();
    const std::uint32_t buffer = device->allocate(8, "vectors");
    const View view = {buffer, 0, 8};
    device->fill({&view, 1}, [](std::span<std::byte>) {});
    EXPECT_EQ(record_.locked.size(), 2U);
  }
  EXPECT_TRUE(record_.locked.empty());
}

// A token is written while others run.
TEST_F(CudaTransfers, SmallWritesWaitForNothing) {
  const auto device = open();
  const std::uint32_t buffer = device->allocate(128, "numbers");
  const std::array dispatches = {add(*device, {buffer, 0, 128}, 1)};
  device->submit(dispatches);
  record_.calls.clear();
  const std::uint32_t token = 7;
  device->write({buffer, 0, sizeof token}, std::as_bytes(std::span(&token, 1)));
  EXPECT_THAT(record_.calls, ElementsAre("MemcpyHtoDAsync"));
}

// Of the copies aside; those that computing needs are in the device's own test.
TEST_F(CudaTransfers, EveryErrorNamesItsCall) {
  const auto use = [&](bool writes) {
    const auto device = open();
    const std::uint32_t buffer = device->allocate(16, "numbers");
    std::array<std::byte, 8> bytes{};
    if (writes) device->write_aside({buffer, 0, 8}, bytes);
    device->copy({buffer, 0, 8}, {buffer, 8, 8});
    if (!writes) device->read_aside({buffer, 8, 8}, bytes);
  };
  for (const bool writes : {true, false}) {
    EXPECT_EQ(error_of([&] { use(writes); }), "no error");
    for (const std::string call :
         {"MemHostAlloc", "EventCreate", "EventRecord", "StreamWaitEvent", "MemcpyDtoDAsync",
          writes ? "MemcpyHtoDAsync" : "MemcpyDtoHAsync",
          writes ? "StreamSynchronize" : "EventSynchronize"}) {
      record_.failures = {{call, 1}};
      EXPECT_THAT(error_of([&] { use(writes); }), HasSubstr("CUDA: cu" + call + ": CUDA_ERROR_X"));
    }
    record_.failures.clear();
  }
}

}  // namespace
}  // namespace gander::gpu
