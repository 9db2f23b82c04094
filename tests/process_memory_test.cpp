#include "bench/process_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

namespace gander {
namespace {

constexpr std::uint64_t kMegabyte = 1 << 20;

TEST(ProcessMemory, KnowsTheMostThereWas) {
  if (!std::filesystem::exists("/proc/self/status")) GTEST_SKIP() << "Linux only";
  EXPECT_EQ(memory_status("NoSuchEntry"), 0U);
  if (!forget_peak_memory()) GTEST_SKIP() << "the peak cannot be forgotten here";
  const std::uint64_t before = memory_status("VmHWM");
  const std::uint64_t anonymous = memory_status("RssAnon");
  {
    const std::vector<char> memory(100 * kMegabyte, 1);
    EXPECT_GE(memory_status("RssAnon"), anonymous + 90 * kMegabyte);
  }
  EXPECT_LT(memory_status("RssAnon"), anonymous + 50 * kMegabyte);
  EXPECT_GE(memory_status("VmHWM"), before + 90 * kMegabyte);
  EXPECT_TRUE(forget_peak_memory());
  EXPECT_LT(memory_status("VmHWM"), before + 50 * kMegabyte);
}

}  // namespace
}  // namespace gander
