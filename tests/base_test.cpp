#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/half.h"
#include "base/mapped_file.h"
#include "base/memory.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Value of a binary16 by its definition.
double half_by_definition(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 0x3ff;
  const double sign = (half & 0x8000) != 0 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Half, EveryFiniteValueDecodesExactlyAndRoundTrips) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00) continue;
    const float value = half_to_float(half);
    ASSERT_EQ(value, half_by_definition(half)) << bits;
    ASSERT_EQ(float_to_half(value), half) << bits;
  }
}

TEST(Half, RoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = half_by_definition(static_cast<std::uint16_t>(bits));
    const double high = half_by_definition(static_cast<std::uint16_t>(bits + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    const std::uint32_t even = bits + (bits & 1);
    ASSERT_EQ(float_to_half(middle), even) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0F)), bits);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9F)), bits + 1);
  }
}

TEST(Half, SpecialValues) {
  EXPECT_TRUE(std::isinf(half_to_float(0x7c00)));
  EXPECT_TRUE(std::isnan(half_to_float(0x7e00)));
  EXPECT_EQ(float_to_half(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_half(65519.0F), 0x7bff);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::infinity()), 0x7c00);
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(std::nanf("")))));
}

TEST(BFloat16, RoundTripsAndRoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7f7f; ++bits) {
    const float value = bfloat16_to_float(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(float_to_bfloat16(value), bits);
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000U);
    ASSERT_EQ(float_to_bfloat16(middle), bits + (bits & 1));
  }
  EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(std::nanf("")))));
}

TEST(MappedFile, ReadsWhatIsThere) {
  const TemporaryFolder folder;
  std::ofstream(folder.path("a")) << "hello";
  const MappedFile file(folder.path("a"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()),
            "hello");
}

TEST(MappedFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  std::ofstream(folder.path("empty")).flush();
  EXPECT_THAT([&] { MappedFile(folder.path("absent")); },
              ThrowsMessage<Error>(HasSubstr("No such file")));
  EXPECT_THAT([&] { MappedFile(folder.path("empty")); },
              ThrowsMessage<Error>(HasSubstr("is empty")));
  EXPECT_THAT([&] { MappedFile(folder.path("")); }, ThrowsMessage<Error>(HasSubstr("is a folder")));
  EXPECT_THAT([] { MappedFile("/dev/null"); },
              ThrowsMessage<Error>(HasSubstr("not a regular file")));
}

TEST(AtomicFile, AppearsOnlyWhenCommitted) {
  const TemporaryFolder folder;
  const std::string path = folder.path("out");
  {
    AtomicFile file(path);
    file.write(std::as_bytes(std::span("abc", 3)));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
  {
    AtomicFile file(path);
    file.write(std::as_bytes(std::span("abc", 3)));
    file.commit();
  }
  EXPECT_EQ(std::filesystem::file_size(path), 3U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path("")), {}), 1);
}

TEST(AtomicFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { AtomicFile(folder.path("no/such/folder")); },
              ThrowsMessage<Error>(HasSubstr("No such file")));
  EXPECT_THAT([&] { AtomicFile(folder.path("")); }, ThrowsMessage<Error>(HasSubstr("a folder")));
}

TEST(AtomicFile, NeverReplacesADeviceOrALink) {
  const TemporaryFolder folder;
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT([&] { AtomicFile file(pipe); },
              ThrowsMessage<Error>(HasSubstr("not a regular file")));
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));

  std::ofstream(folder.path("target")) << "old";
  std::filesystem::create_symlink(folder.path("target"), folder.path("link"));
  std::filesystem::create_symlink(pipe, folder.path("link to pipe"));
  AtomicFile file(folder.path("link"));
  file.write(std::as_bytes(std::span("newer", 5)));
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(folder.path("link")));
  EXPECT_EQ(std::filesystem::file_size(folder.path("target")), 5U);
  EXPECT_THAT([&] { AtomicFile other(folder.path("link to pipe")); },
              ThrowsMessage<Error>(HasSubstr("not a regular file")));
}

TEST(Memory, TextForPeople) {
  EXPECT_EQ(bytes_text(12), "12 bytes");
  EXPECT_EQ(bytes_text(1'700'000'000), "1.7 GB");
  EXPECT_EQ(bytes_text(26'400'000), "26 MB");
  EXPECT_EQ(bytes_text(999'900), "1.0 MB");
  EXPECT_GT(available_memory(), 0U);
}

}  // namespace
}  // namespace gander
