#pragma once

#include <gmock/gmock.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/gpu/cuda/cuda_device.h"
#include "base/error.h"

// The CUDA device over a driver of our own, whose kernel adds a number to every float of a buffer:
// what is asked of the driver, in which order, and what its errors become. What a GPU computes is
// tested by the tests of the kernels (script/gpu-test).
namespace gander::gpu {

inline constexpr cuda::Result kIllegalAddress = 700;

struct CudaCopy {
  cuda::Address to;
  const std::byte* from;
  std::size_t bytes;
};

/// What the driver of the test was asked to do, and what it is told to answer.
struct CudaRecord {
  std::vector<std::string> calls;
  std::map<std::string, cuda::Result> failures;  ///< call → what it returns
  std::map<cuda::Address, std::size_t> memory;
  /// Memory of the CPU that the GPU copies from by itself → bytes.
  std::map<const std::byte*, std::size_t> locked;
  std::deque<CudaCopy> queued;                 ///< such copies, which happen as late as they may
  std::uint64_t copied = 0;                    ///< that have happened
  std::map<cuda::Event, std::uint64_t> marks;  ///< event → copies before it
  std::uintptr_t events = 0;
  int major_capability = 9, minor_capability = 0;
  int max_threads = 256;
  int max_group_memory = 48 << 10;
  int cooperates = 0;
  std::size_t free_bytes = 3U << 20, total_bytes = 80U << 20;
  std::vector<std::string> modules;  ///< that it was given
  unsigned group_memory = 0;
};

/// A driver that keeps its record there: one at a time, for its functions know no other place.
cuda::Driver fake_cuda_driver(CudaRecord& record);

/// The text of its kernel, and what that is specialised with.
inline constexpr std::string_view kAddModule = R"(
.visible .entry add(
	.param .align 16 .b8 add_param_0[20]
)
{
  mov.b32 %r1, gander_constant_0;
}
)";
inline constexpr std::array kAddModules = {kAddModule};
inline constexpr std::array kAddConstants = {FunctionConstant{0, false, 64}};

class CudaDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<Device> open(int ordinal = 0);
  /// A dispatch of the driver's kernel, `add`, on the view.
  static Dispatch add(Device& device, const View& view, float summand);

  template <typename Action>
  static std::string error_of(Action action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  CudaRecord record_;
  cuda::Driver driver_ = fake_cuda_driver(record_);
};

}  // namespace gander::gpu
