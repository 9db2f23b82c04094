#include "backend/gpu/cuda/linker.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/error.h"

namespace gander::gpu::cuda {
namespace {

/// A link under way. Its options must stay where they are.
class Link {
 public:
  explicit Link(const Driver& driver) : driver_(driver) {}
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    if (state_ != nullptr) driver_.LinkDestroy(state_);
  }

  Result run(const std::string& ptx, std::vector<std::byte>& image) {
    if (const Result result = driver_.LinkCreate(static_cast<unsigned>(options_.size()),
                                                 options_.data(), values_.data(), &state_);
        result != 0) {
      return result;
    }
    // The text with its last byte, a zero.
    if (const Result result =
            driver_.LinkAddData(state_, kPtxInput, const_cast<char*>(ptx.c_str()), ptx.size() + 1,
                                "kernel", 0, nullptr, nullptr);
        result != 0) {
      return result;
    }
    void* code = nullptr;
    std::size_t bytes = 0;
    if (const Result result = driver_.LinkComplete(state_, &code, &bytes); result != 0) {
      return result;
    }
    const auto* const begin = static_cast<const std::byte*>(code);
    image.assign(begin, begin + bytes);
    return 0;
  }

  /// What the driver says, in one line.
  std::string_view log() {
    std::ranges::replace(log_, '\n', ' ');
    return log_.data();
  }

 private:
  const Driver& driver_;
  LinkState state_ = nullptr;
  std::array<char, 2048> log_{};
  std::array<int, 2> options_ = {kErrorLogBuffer, kErrorLogBytes};
  std::array<void*, 2> values_ = {log_.data(), std::bit_cast<void*>(log_.size() - 1)};
};

}  // namespace

std::vector<std::byte> link(const Driver& driver, Context context, const std::string& kernel,
                            const std::string& ptx) {
  std::vector<std::byte> image;
  Link link(driver);
  Result result = driver.CtxSetCurrent(context);
  if (result == 0) result = link.run(ptx, image);
  if (result != 0) {
    fail(
        "CUDA: the driver cannot compile kernel {}: {}: {} (a driver of CUDA 12.5 or later is "
        "needed)",
        kernel, driver.describe(result), link.log());
  }
  return image;
}

}  // namespace gander::gpu::cuda
