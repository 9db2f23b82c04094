#include "bench/process_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <filesystem>

namespace gander {
namespace {

constexpr std::uint64_t kMegabyte = 1 << 20;

TEST(ProcessMemory, KnowsTheMostThereWas) {
  if (!std::filesystem::exists("/proc/self/status")) GTEST_SKIP() << "Linux only";
  EXPECT_EQ(memory_status("NoSuchEntry"), 0U);
  if (!forget_peak_memory()) GTEST_SKIP() << "the peak cannot be forgotten here";
  const std::uint64_t before = memory_status("VmHWM");
  const std::uint64_t anonymous = memory_status("RssAnon");
  // Not from the allocator, which may keep what it gets back.
  void* const memory =
      ::mmap(nullptr, 100 * kMegabyte, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::memset(memory, 1, 100 * kMegabyte);
  EXPECT_GE(memory_status("RssAnon"), anonymous + 90 * kMegabyte);
  ::munmap(memory, 100 * kMegabyte);
  EXPECT_LT(memory_status("RssAnon"), anonymous + 50 * kMegabyte);
  EXPECT_GE(memory_status("VmHWM"), before + 90 * kMegabyte);
  EXPECT_TRUE(forget_peak_memory());
  EXPECT_LT(memory_status("VmHWM"), before + 50 * kMegabyte);
}

}  // namespace
}  // namespace gander
