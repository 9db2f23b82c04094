#include "base/zeroed_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace gander {
namespace {

TEST(ZeroedAllocator, GivesZerosOfAnySize) {
  using Floats = std::vector<float, ZeroedAllocator<float>>;
  for (const std::size_t count : {1UL, 1000UL, 524287UL, 524288UL, 3'000'001UL}) {
    for (int round = 0; round < 2; ++round) {  // the memory of before is not given out again
      Floats floats(count);
      EXPECT_TRUE(std::ranges::all_of(floats, [](float value) { return value == 0.0F; })) << count;
      std::ranges::fill(floats, 1.5F);
      Floats copy = floats;
      EXPECT_EQ(copy, floats);
      Floats moved = std::move(floats);
      EXPECT_EQ(moved, copy);
      copy.assign(3, 2.0F);
      EXPECT_EQ(copy, Floats(3, 2.0F));
    }
  }
  EXPECT_TRUE(Floats().empty());
}

TEST(ZeroedAllocator, RefusesWhatThereIsNot) {
  EXPECT_THROW(allocate_zeros(SIZE_MAX - 8), std::bad_alloc);
  EXPECT_THROW(ZeroedAllocator<double>().allocate(SIZE_MAX / 4), std::bad_alloc);
}

}  // namespace
}  // namespace gander
