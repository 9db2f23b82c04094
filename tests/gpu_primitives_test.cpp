#include <gtest/gtest.h>

#include "backend/gpu/recording_device.h"
#include "tests/support/primitive_case.h"

// Primitives of a value a thread, normalisations, and mixing with the token before.
namespace gander::gpu {
namespace {

struct Size {
  std::size_t count, period;
};
constexpr std::array kSizes = {Size{1, 1}, Size{255, 51}, Size{257, 257}, Size{1000, 100}};

TEST(GpuPrimitives, BlitCopies) {
  for (const Size& size : kSizes) {
    const FloatVector x = random_floats(size.count, 1);
    const FloatVector y = in_all_orders([&](Device& device) {
      FloatVector result(size.count);
      KernelRun run(device, "blit");
      run.in(view(x));
      run.out(result);
      run.parameters(CountParameters{number(size.count)});
      run.launch({groups(size.count, 64), 1}, 64);
      return result;
    });
    EXPECT_EQ(x, y);
  }
}

TEST(GpuPrimitives, BlitQuadsCopiesFourAtATime) {
  for (const std::size_t quads : {1, 64, 67}) {
    const FloatVector x = random_floats(4 * quads, 1);
    const FloatVector y = in_all_orders([&](Device& device) {
      FloatVector result(4 * quads);
      KernelRun run(device, "blit_quads");
      run.in(view(x));
      run.out(result);
      run.parameters(CountParameters{number(quads)});
      run.launch({groups(quads, 64), 1}, 64);
      return result;
    });
    EXPECT_EQ(x, y);
  }
}

// Views of whole quads take the kernel that copies quads, others the one that copies floats.
TEST(GpuPrimitives, BlitTakesQuadsWhereTheyAreWhole) {
  DeviceInfo info;
  info.max_group_memory = 1024;
  RecordingDevice device(info);
  const Recorder recorder(device, Config{});
  const std::uint32_t buffer = device.allocate(256, "test");
  const auto kernel_of = [&](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    Program program;
    Primitives(recorder, program, 0).blit({buffer, from, bytes}, {buffer, to, bytes});
    return program.dispatches[0].kernel;
  };
  EXPECT_EQ(kernel_of(0, 128, 64), "blit_quads");
  EXPECT_EQ(kernel_of(4, 128, 64), "blit");
  EXPECT_EQ(kernel_of(0, 132, 64), "blit");
  EXPECT_EQ(kernel_of(0, 128, 60), "blit");
}

TEST(GpuPrimitives, AddAndMulRepeatTheirOperand) {
  for (const Size& size : kSizes) {
    const FloatVector x = random_floats(size.period, 1);
    const FloatVector y = random_floats(size.count, 2);
    for (const bool adds : {true, false}) {
      const FloatVector result = in_all_orders([&](Device& device) {
        FloatVector changed = y;
        KernelRun run(device, adds ? "add" : "mul");
        run.in(view(x));
        run.in_out(changed);
        run.parameters(BroadcastParameters{number(size.count), number(size.period)});
        run.launch({groups(size.count, 64), 1}, 64);
        return changed;
      });
      DoubleVector expected;
      for (std::size_t i = 0; i < size.count; ++i) {
        const double operand = x[i % size.period];
        expected.push_back(adds ? y[i] + operand : y[i] * operand);
      }
      expect_near(result, expected, kExact);
    }
  }
}

TEST(GpuPrimitives, AffineScalesAndShifts) {
  for (const Size& size : kSizes) {
    const FloatVector y = random_floats(size.count, 1);
    const FloatVector result = in_all_orders([&](Device& device) {
      FloatVector changed = y;
      KernelRun run(device, "affine");
      run.in_out(changed);
      run.parameters(AffineParameters{number(size.count), -0.606531F, 0.25F});
      run.launch({groups(size.count, 64), 1}, 64);
      return changed;
    });
    DoubleVector expected;
    for (const float value : y) expected.push_back(-0.606531 * value + 0.25);
    expect_near(result, expected, kExact);
  }
}

TEST(GpuPrimitives, LerpGoesFromOneToTheOther) {
  for (const Size& size : kSizes) {
    const FloatVector factor = random_floats(size.count, 1, 0, 1);
    const FloatVector x = random_floats(size.count, 2);
    const FloatVector y = random_floats(size.count, 3);
    const FloatVector result = in_all_orders([&](Device& device) {
      FloatVector changed = y;
      KernelRun run(device, "lerp");
      run.in(view(factor));
      run.in(view(x));
      run.in_out(changed);
      run.parameters(CountParameters{number(size.count)});
      run.launch({groups(size.count, 64), 1}, 64);
      return changed;
    });
    DoubleVector expected;
    for (std::size_t i = 0; i < size.count; ++i) {
      expected.push_back(y[i] + (static_cast<double>(x[i]) - y[i]) * factor[i]);
    }
    expect_near(result, expected, kExact);
  }
}

TEST(GpuPrimitives, ActivationsAreAccurateAndBounded) {
  FloatVector y = random_floats(1000, 1, -8, 8);
  for (const float value : {0.0F, -0.0F, 60.0F, -60.0F}) y.push_back(value);
  const FloatVector bias = random_floats(4, 2);
  for (const std::uint32_t activation : kActivations) {
    const FloatVector result = in_all_orders([&](Device& device) {
      FloatVector changed = y;
      KernelRun run(device, "activate");
      run.in_out(changed);
      run.parameters(ActivateParameters{number(y.size()), activation});
      run.launch({groups(y.size(), 96), 1}, 96);
      return changed;
    });
    const FloatVector biased = in_all_orders([&](Device& device) {
      FloatVector changed = y;
      KernelRun run(device, "add_activate");
      run.in(view(bias));
      run.in_out(changed);
      run.parameters(AddActivateParameters{number(y.size()), number(bias.size()), activation});
      run.launch({groups(y.size(), 96), 1}, 96);
      return changed;
    });
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double expected = activation_of(y[i], activation);
      ASSERT_NEAR(result[i], expected, 3e-7 * std::fabs(expected) + 1e-37) << activation;
      // The sum is rounded once, to 4e-6 at 60: that much of the argument of exp.
      const double moved = activation_of(static_cast<double>(y[i]) + bias[i % 4], activation);
      ASSERT_NEAR(biased[i], moved, 5e-6 * std::fabs(moved) + 1e-37) << activation;
    }
  }
}

DoubleVector normalized(const FloatVector& x, std::size_t size, double epsilon) {
  DoubleVector y;
  for (std::size_t begin = 0; begin < x.size(); begin += size) {
    double mean = 0;
    double variance = 0;
    for (std::size_t i = begin; i < begin + size; ++i) mean += x[i] / static_cast<double>(size);
    for (std::size_t i = begin; i < begin + size; ++i) {
      variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(size);
    }
    for (std::size_t i = begin; i < begin + size; ++i) {
      y.push_back((x[i] - mean) / std::sqrt(variance + epsilon));
    }
  }
  return y;
}

FloatVector run_in_place(const char* kernel, const FloatVector& x,
                         const GroupsParameters& parameters, std::uint32_t thread_groups,
                         std::uint32_t threads) {
  return in_all_orders([&](Device& device) {
    FloatVector changed = x;
    KernelRun run(device, kernel);
    run.in_out(changed);
    run.parameters(parameters);
    run.launch({thread_groups, 1}, threads);
    return changed;
  });
}

TEST(GpuPrimitives, LayerNormOfRows) {
  for (const std::size_t size : {1U, 31U, 100U, 257U, 2560U}) {
    for (const std::uint32_t threads : {32U, 96U, 1024U}) {
      const FloatVector x = random_floats(3 * size, 1);
      const GroupsParameters parameters = {3, number(size), 1e-5F};
      expect_near(run_in_place("layer_norm", x, parameters, 3, threads), normalized(x, size, 1e-5),
                  kSums);
    }
  }
}

TEST(GpuPrimitives, LayerNormKeepsItsDigitsBesideALargeMean) {
  // The mean itself is only known to 6e-8 of 1,000.
  const FloatVector x = random_floats(2560, 1, 999, 1001);
  expect_near(run_in_place("layer_norm", x, {1, 2560, 1e-5F}, 1, 256), normalized(x, 2560, 1e-5),
              1e-3);
}

TEST(GpuPrimitives, GroupNormOfHeads) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    const FloatVector x = random_floats(7 * size, 1);
    const GroupsParameters parameters = {7, number(size), 64e-5F};
    expect_near(run_in_place("group_norm", x, parameters, 2, 128), normalized(x, size, 64e-5),
                kSums);
  }
}

TEST(GpuPrimitives, L2NormOfHeads) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    FloatVector x = random_floats(7 * size, 1);
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(size), size, 0.0F);  // stays zero
    DoubleVector expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      double square = 0;
      for (std::size_t j = i / size * size; j < (i / size + 1) * size; ++j) {
        square += static_cast<double>(x[j]) * x[j];
      }
      expected.push_back(x[i] / std::max(std::sqrt(square), 1e-12));
    }
    expect_near(run_in_place("l2_norm", x, {7, number(size), 1e-12F}, 2, 128), expected, kSums);
  }
}

TEST(GpuPrimitives, SoftmaxOfRows) {
  for (const std::size_t size : {1U, 50U, 257U, 5000U}) {
    for (const float offset : {0.0F, 30000.0F, -30000.0F}) {  // exp alone would overflow
      const FloatVector x = random_floats(2 * size, 1, offset - 6, offset + 6);
      DoubleVector expected;
      for (std::size_t row = 0; row < 2; ++row) {
        const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row * size);
        double sum = 0;
        for (std::size_t i = 0; i < size; ++i)
          sum += std::exp(static_cast<double>(begin[i]) - offset);
        for (std::size_t i = 0; i < size; ++i) {
          expected.push_back(std::exp(static_cast<double>(begin[i]) - offset) / sum);
        }
      }
      expect_near(run_in_place("softmax", x, {2, number(size), 0}, 2, 160), expected, kSums);
    }
  }
}

TEST(GpuPrimitives, TokenShiftReadsTheRowBefore) {
  const std::size_t width = 97;
  for (const std::size_t tokens : {1U, 3U}) {
    const FloatVector x = random_floats(tokens * width, 1);
    const FloatVector shift = random_floats(width, 2);
    const FloatVector mix = random_floats(width, 3, 0, 1);
    const FloatVector mixed = in_all_orders([&](Device& device) {
      FloatVector result(x.size());
      KernelRun run(device, "token_shift");
      run.in(view(x));
      run.in(view(shift));
      run.in(view(mix));
      run.out(result);
      run.parameters(ChunkParameters{number(tokens), number(width)});
      run.launch({groups(x.size(), 64), 1}, 64);
      return result;
    });
    DoubleVector expected;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double previous = i < width ? shift[i] : x[i - width];
      expected.push_back(x[i] + (previous - x[i]) * mix[i % width]);
    }
    expect_near(mixed, expected, kExact);
  }
}

TEST(GpuPrimitives, ChannelMixKeepsTheLastRow) {
  const std::size_t width = 97;
  const std::size_t tokens = 3;
  const FloatVector v = random_floats(tokens * width, 1);
  const FloatVector x = random_floats(tokens * width, 2);
  const FloatVector both = in_all_orders([&](Device& device) {
    FloatVector changed = x;
    FloatVector shift(width);
    KernelRun run(device, "channel_mix_v7");
    run.in(view(v));
    run.in_out(changed);
    run.out(shift);
    run.parameters(ChunkParameters{number(tokens), number(width)});
    run.launch({groups(width, 64), 1}, 64);
    changed.insert(changed.end(), shift.begin(), shift.end());
    return changed;
  });
  FloatVector expected = v;
  expected.insert(expected.end(), x.end() - static_cast<std::ptrdiff_t>(width), x.end());
  EXPECT_EQ(both, expected);
}

}  // namespace
}  // namespace gander::gpu
