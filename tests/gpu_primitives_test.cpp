#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "backend/gpu/primitives.h"
#include "backend/gpu/transposed_value.h"
#include "kernels/function_constants.h"
#include "model/quant/blocks.h"
#include "tests/support/backend_check.h"
#include "tests/support/kernel_run.h"
#include "tests/support/test_device.h"

// Each primitive against its formula in double precision.
namespace gander::gpu {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

// Rounding of a few fp32 operations a value, as a share of the largest value.
constexpr double kExact = 5e-7;
// Sums of up to a thousand terms.
constexpr double kSums = 3e-6;
// Products of matrices, as a share of the sum of the absolute products. Formats with an offset
// multiply levels that are larger than the weights.
constexpr double kProduct = 5e-7;

Floats random_floats(std::size_t count, unsigned seed, float low = -2, float high = 2) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> distribution(low, high);
  Floats values(count);
  for (float& value : values) value = distribution(generator);
  return values;
}

std::span<const float> view(const Floats& values) {
  return values;
}

// Runs `body`, which returns what a kernel computed, with the threads of a group scheduled in three
// orders: a kernel that misses a barrier gives different results.
Floats in_all_orders(const std::function<Floats(Device&)>& body) {
  Floats first;
  for (const Order order : {Order::Forward, Order::Reverse, Order::Shuffled}) {
    const auto device = open_test_device(order);
    const Floats result = body(*device);
    if (order == Order::Forward) first = result;
    EXPECT_EQ(first.size(), result.size());
    EXPECT_EQ(std::memcmp(first.data(), result.data(), first.size() * sizeof(float)), 0)
        << "order " << static_cast<int>(order);
  }
  return first;
}

void expect_near(const Floats& actual, const Doubles& expected, double tolerance) {
  EXPECT_LE(relative_error(std::span<const float>(actual), std::span<const double>(expected)),
            tolerance);
}

std::uint32_t groups(std::size_t items, std::size_t of_group) {
  return static_cast<std::uint32_t>((items + of_group - 1) / of_group);
}

std::uint32_t number(std::size_t count) {
  return static_cast<std::uint32_t>(count);
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double activation_of(double x, std::uint32_t activation) {
  switch (activation) {
    case GANDER_ACTIVATION_TANH:
      return std::tanh(x);
    case GANDER_ACTIVATION_SIGMOID:
      return sigmoid(x);
    case GANDER_ACTIVATION_SQUARED_RELU:
      return x > 0 ? x * x : 0;
    case GANDER_ACTIVATION_EXP:
      return std::exp(x);
    default:
      return x;
  }
}

constexpr std::array kActivations = {GANDER_ACTIVATION_NONE, GANDER_ACTIVATION_TANH,
                                     GANDER_ACTIVATION_SIGMOID, GANDER_ACTIVATION_SQUARED_RELU,
                                     GANDER_ACTIVATION_EXP};

// --- A value a thread. Sizes that fill no group, and vectors that repeat.

struct Size {
  std::size_t count, period;
};
constexpr std::array kSizes = {Size{1, 1}, Size{255, 51}, Size{257, 257}, Size{1000, 100}};

TEST(GpuPrimitives, BlitCopies) {
  for (const Size& size : kSizes) {
    const Floats x = random_floats(size.count, 1);
    const Floats y = in_all_orders([&](Device& device) {
      Floats result(size.count);
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

TEST(GpuPrimitives, AddAndMulRepeatTheirOperand) {
  for (const Size& size : kSizes) {
    const Floats x = random_floats(size.period, 1);
    const Floats y = random_floats(size.count, 2);
    for (const bool adds : {true, false}) {
      const Floats result = in_all_orders([&](Device& device) {
        Floats changed = y;
        KernelRun run(device, adds ? "add" : "mul");
        run.in(view(x));
        run.in_out(changed);
        run.parameters(BroadcastParameters{number(size.count), number(size.period)});
        run.launch({groups(size.count, 64), 1}, 64);
        return changed;
      });
      Doubles expected;
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
    const Floats y = random_floats(size.count, 1);
    const Floats result = in_all_orders([&](Device& device) {
      Floats changed = y;
      KernelRun run(device, "affine");
      run.in_out(changed);
      run.parameters(AffineParameters{number(size.count), -0.606531F, 0.25F});
      run.launch({groups(size.count, 64), 1}, 64);
      return changed;
    });
    Doubles expected;
    for (const float value : y) expected.push_back(-0.606531 * value + 0.25);
    expect_near(result, expected, kExact);
  }
}

TEST(GpuPrimitives, LerpGoesFromOneToTheOther) {
  for (const Size& size : kSizes) {
    const Floats factor = random_floats(size.count, 1, 0, 1);
    const Floats x = random_floats(size.count, 2);
    const Floats y = random_floats(size.count, 3);
    const Floats result = in_all_orders([&](Device& device) {
      Floats changed = y;
      KernelRun run(device, "lerp");
      run.in(view(factor));
      run.in(view(x));
      run.in_out(changed);
      run.parameters(CountParameters{number(size.count)});
      run.launch({groups(size.count, 64), 1}, 64);
      return changed;
    });
    Doubles expected;
    for (std::size_t i = 0; i < size.count; ++i) {
      expected.push_back(y[i] + (static_cast<double>(x[i]) - y[i]) * factor[i]);
    }
    expect_near(result, expected, kExact);
  }
}

TEST(GpuPrimitives, ActivationsAreAccurateAndBounded) {
  Floats y = random_floats(1000, 1, -8, 8);
  for (const float value : {0.0F, -0.0F, 60.0F, -60.0F}) y.push_back(value);
  const Floats bias = random_floats(4, 2);
  for (const std::uint32_t activation : kActivations) {
    const Floats result = in_all_orders([&](Device& device) {
      Floats changed = y;
      KernelRun run(device, "activate");
      run.in_out(changed);
      run.parameters(ActivateParameters{number(y.size()), activation});
      run.launch({groups(y.size(), 96), 1}, 96);
      return changed;
    });
    const Floats biased = in_all_orders([&](Device& device) {
      Floats changed = y;
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

// --- Normalisations.

Doubles normalized(const Floats& x, std::size_t size, double epsilon) {
  Doubles y;
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

Floats run_in_place(const char* kernel, const Floats& x, const GroupsParameters& parameters,
                    std::uint32_t thread_groups, std::uint32_t threads) {
  return in_all_orders([&](Device& device) {
    Floats changed = x;
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
      const Floats x = random_floats(3 * size, 1);
      const GroupsParameters parameters = {3, number(size), 1e-5F};
      expect_near(run_in_place("layer_norm", x, parameters, 3, threads), normalized(x, size, 1e-5),
                  kSums);
    }
  }
}

TEST(GpuPrimitives, LayerNormKeepsItsDigitsBesideALargeMean) {
  // The mean itself is only known to 6e-8 of 1,000.
  const Floats x = random_floats(2560, 1, 999, 1001);
  expect_near(run_in_place("layer_norm", x, {1, 2560, 1e-5F}, 1, 256), normalized(x, 2560, 1e-5),
              1e-3);
}

TEST(GpuPrimitives, GroupNormOfHeads) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    const Floats x = random_floats(7 * size, 1);
    const GroupsParameters parameters = {7, number(size), 64e-5F};
    expect_near(run_in_place("group_norm", x, parameters, 2, 128), normalized(x, size, 64e-5),
                kSums);
  }
}

TEST(GpuPrimitives, L2NormOfHeads) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    Floats x = random_floats(7 * size, 1);
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(size), size, 0.0F);  // stays zero
    Doubles expected;
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
      const Floats x = random_floats(2 * size, 1, offset - 6, offset + 6);
      Doubles expected;
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

// --- Mixing with the token before.

TEST(GpuPrimitives, TokenShiftReadsTheRowBefore) {
  const std::size_t width = 97;
  for (const std::size_t tokens : {1U, 3U}) {
    const Floats x = random_floats(tokens * width, 1);
    const Floats shift = random_floats(width, 2);
    const Floats mix = random_floats(width, 3, 0, 1);
    const Floats mixed = in_all_orders([&](Device& device) {
      Floats result(x.size());
      KernelRun run(device, "token_shift");
      run.in(view(x));
      run.in(view(shift));
      run.in(view(mix));
      run.out(result);
      run.parameters(ChunkParameters{number(tokens), number(width)});
      run.launch({groups(x.size(), 64), 1}, 64);
      return result;
    });
    Doubles expected;
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
  const Floats v = random_floats(tokens * width, 1);
  const Floats x = random_floats(tokens * width, 2);
  const Floats both = in_all_orders([&](Device& device) {
    Floats changed = x;
    Floats shift(width);
    KernelRun run(device, "channel_mix_v7");
    run.in(view(v));
    run.in_out(changed);
    run.out(shift);
    run.parameters(ChunkParameters{number(tokens), number(width)});
    run.launch({groups(width, 64), 1}, 64);
    changed.insert(changed.end(), shift.begin(), shift.end());
    return changed;
  });
  Floats expected = v;
  expected.insert(expected.end(), x.end() - static_cast<std::ptrdiff_t>(width), x.end());
  EXPECT_EQ(both, expected);
}

// --- The recurrence.

TEST(GpuPrimitives, ControlOfK) {
  const std::size_t width = 70;
  const std::size_t count = 3 * width;
  const Floats k_a = random_floats(width, 1);
  const Floats a = random_floats(count, 2, 0, 1);
  const Floats k = random_floats(count, 3);
  const Floats adjusted = in_all_orders([&](Device& device) {
    Floats changed = k;
    KernelRun run(device, "control_k_v7");
    run.in(view(k_a));
    run.in(view(a));
    run.in_out(changed);
    run.parameters(BroadcastParameters{number(count), number(width)});
    run.launch({groups(count, 64), 1}, 64);
    return changed;
  });
  Doubles expected;
  for (std::size_t i = 0; i < count; ++i) {
    expected.push_back(k[i] * (1 + (static_cast<double>(a[i]) - 1) * k_a[i % width]));
  }
  expect_near(adjusted, expected, kExact);
}

// k, v, a, kk of each token, one after the other.
Floats packed_by_hand(const std::array<Floats, 4>& parts, std::size_t tokens, std::size_t width) {
  Floats packed;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (const Floats& part : parts) {
      const auto row = part.begin() + static_cast<std::ptrdiff_t>(t * width);
      packed.insert(packed.end(), row, row + static_cast<std::ptrdiff_t>(width));
    }
  }
  return packed;
}

TEST(GpuPrimitives, PackPutsATokenTogether) {
  const std::size_t width = 70;
  const std::size_t tokens = 3;
  std::array<Floats, 4> parts;
  for (unsigned i = 0; i < 4; ++i) parts[i] = random_floats(tokens * width, i);
  const Floats packed = in_all_orders([&](Device& device) {
    Floats result(4 * tokens * width);
    KernelRun run(device, "pack_kvakk");
    for (const Floats& part : parts) run.in(view(part));
    run.out(result);
    run.parameters(ChunkParameters{number(tokens), number(width)});
    run.launch({groups(tokens * width, 64), 1}, 64);
    return result;
  });
  EXPECT_EQ(packed, packed_by_hand(parts, tokens, width));
}

// Operands of the recurrence for a chunk, with the ranges a model has.
struct Recurrence {
  std::size_t tokens, heads, size;
  Floats r, w, k, v, a, kk, state;

  Recurrence(std::size_t t, std::size_t h, std::size_t n) : tokens(t), heads(h), size(n) {
    const std::size_t count = t * h * n;
    r = random_floats(count, 1);
    w = random_floats(count, 2, 0.5452F, 1);
    k = random_floats(count, 3);
    v = random_floats(count, 4);
    a = random_floats(count, 5, 0, 1);
    const float unit = 1 / std::sqrt(static_cast<float>(n));
    kk = random_floats(count, 6, -unit, unit);
    state = random_floats(h * n * n, 7);
  }
  Floats packed() const { return packed_by_hand({k, v, a, kk}, tokens, heads * size); }
  HeadsParameters parameters(std::size_t count) const {
    return {number(count), number(heads), number(size)};
  }

  // y of all tokens, then S.
  Doubles expected() const {
    Doubles result;
    Doubles s(state.begin(), state.end());
    for (std::size_t t = 0; t < tokens; ++t) {
      const std::size_t row_of_token = t * heads * size;
      for (std::size_t i = 0; i < heads * size; ++i) {
        const std::size_t head = row_of_token + i / size * size;
        double* row = s.data() + i * size;
        double removed = 0;
        double y = 0;
        for (std::size_t j = 0; j < size; ++j) removed -= row[j] * kk[head + j];
        for (std::size_t j = 0; j < size; ++j) {
          row[j] = row[j] * w[head + j] + removed * kk[head + j] * a[head + j] +
                   static_cast<double>(v[row_of_token + i]) * k[head + j];
          y += row[j] * r[head + j];
        }
        result.push_back(y);
      }
    }
    result.insert(result.end(), s.begin(), s.end());
    return result;
  }

  // The same by the kernel, in pieces of `step` tokens.
  Floats computed(Device& device, std::size_t step) const {
    const std::size_t width = heads * size;
    const Floats n = packed();
    Floats s = state;
    Floats result;
    for (std::size_t begin = 0; begin < tokens; begin += step) {
      const std::size_t count = std::min(step, tokens - begin);
      Floats y(count * width);
      KernelRun run(device, "time_mix_v7");
      run.in(view(r).subspan(begin * width, count * width));
      run.in(view(w).subspan(begin * width, count * width));
      run.in(view(n).subspan(begin * 4 * width, count * 4 * width));
      run.in_out(s);
      run.out(y);
      run.parameters(parameters(count));
      run.launch({groups(width, 3), 1}, 96);
      result.insert(result.end(), y.begin(), y.end());
    }
    result.insert(result.end(), s.begin(), s.end());
    return result;
  }
};

TEST(GpuPrimitives, TimeMixOfSeveralHeads) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    const Recurrence recurrence(3, 2, size);
    const Floats result =
        in_all_orders([&](Device& device) { return recurrence.computed(device, 3); });
    expect_near(result, recurrence.expected(), kSums);
  }
}

TEST(GpuPrimitives, TimeMixOfAChunkIsThatOfItsTokens) {
  const Recurrence recurrence(7, 2, 64);
  const auto device = open_test_device();
  const Floats whole = recurrence.computed(*device, 7);
  EXPECT_EQ(whole, recurrence.computed(*device, 1));
  EXPECT_EQ(whole, recurrence.computed(*device, 3));
}

TEST(GpuPrimitives, TimeFirstAddsTheBonus) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    const Recurrence x(3, 3, size);
    const std::size_t width = x.heads * size;
    const Floats packed = x.packed();
    const Floats r_k = random_floats(width, 8);
    const Floats y = random_floats(x.tokens * width, 9);
    const Floats result = in_all_orders([&](Device& device) {
      Floats changed = y;
      KernelRun run(device, "time_first_v7");
      run.in(view(r_k));
      run.in(view(x.r));
      run.in(view(packed));
      run.in_out(changed);
      run.parameters(x.parameters(x.tokens));
      run.launch({groups(x.tokens * x.heads, 4), 1}, 128);
      return changed;
    });
    Doubles expected;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t head = i / size * size;
      double bonus = 0;
      for (std::size_t j = head; j < head + size; ++j) {
        bonus += static_cast<double>(x.r[j]) * x.k[j] * r_k[j % width];
      }
      expected.push_back(y[i] + bonus * x.v[i]);
    }
    expect_near(result, expected, kSums);
  }
}

// --- Matrices of all types.

struct StoredMatrix {
  DataType type;
  std::size_t rows, columns;
  std::vector<std::byte> bytes;
  Floats values;  // as they are stored

  StoredMatrix(DataType stored_type, std::size_t row_count, std::size_t column_count)
      : type(stored_type), rows(row_count), columns(column_count) {
    bytes.resize(rows * row_bytes(type, columns));
    values.resize(rows * columns);
    quantize(type, random_floats(values.size(), 11), bytes);
    dequantize(type, bytes.data(), values);
  }
  std::span<const std::byte> data() const { return bytes; }
  std::uint32_t type_number() const { return static_cast<std::uint32_t>(type); }

  // Every y must lie where the activation can put a sum whose error is kProduct of the sum of
  // the absolute products. All activations are monotonic.
  void expect_product(const Floats& x, std::uint32_t activation, const Floats& y) const {
    for (std::size_t i = 0; i < y.size(); ++i) {
      const float* w = values.data() + i % rows * columns;
      const float* inputs = x.data() + i / rows * columns;
      double sum = 0;
      double size = 0;
      for (std::size_t j = 0; j < columns; ++j) {
        const double product = static_cast<double>(w[j]) * inputs[j];
        sum += product;
        size += std::fabs(product);
      }
      const double low = activation_of(sum - kProduct * size, activation);
      const double high = activation_of(sum + kProduct * size, activation);
      ASSERT_GE(y[i], low - kExact * std::fabs(low)) << "at " << i;
      ASSERT_LE(y[i], high + kExact * std::fabs(high)) << "at " << i;
    }
  }
};

struct Shape {
  std::size_t rows, columns;
};

// Fewer rows than a SIMD group takes, and more than a group's; columns that fill no vector load
// where the type has them.
std::vector<Shape> shapes(DataType type) {
  std::vector<Shape> result = {{1, 256}, {5, 512}, {35, 768}};
  if (info(type).block_size <= 32) result.push_back({33, 96});
  if (info(type).block_size == 1) {
    result.push_back({34, 7});
    result.push_back({6, 100});
  }
  return result;
}

// Activations of sums need inputs that keep these within a few units.
Floats inputs(std::size_t tokens, std::size_t columns) {
  const float size = 1.5F / std::sqrt(static_cast<float>(columns));
  return random_floats(tokens * columns, 12, -size, size);
}

TEST(GpuPrimitives, MatmulVecOfEveryTypeAndActivation) {
  for (const DataTypeInfo& type : all_data_types()) {
    for (const Shape& shape : shapes(type.type)) {
      const StoredMatrix matrix(type.type, shape.rows, shape.columns);
      const Floats x = inputs(1, shape.columns);
      for (const std::uint32_t activation : kActivations) {
        SCOPED_TRACE(std::string(type.name) + " activation " + std::to_string(activation));
        const Floats y = in_all_orders([&](Device& device) {
          Floats result(shape.rows);
          KernelRun run(device, "matmul_vec");
          run.constant(GANDER_WEIGHT_TYPES, type_bit(type.type));
          run.in(matrix.data());
          run.in(view(x));
          run.out(result);
          run.parameters(MatmulParameters{number(shape.rows), number(shape.columns), 1,
                                          matrix.type_number(), activation});
          run.launch({groups(shape.rows, 8), 1}, 64, number((shape.columns + 3) / 4 * 16));
          return result;
        });
        matrix.expect_product(x, activation, y);
      }
    }
  }
}

TEST(GpuPrimitives, MatmulMatOfEveryType) {
  for (const DataTypeInfo& type : all_data_types()) {
    for (const Shape& shape : shapes(type.type)) {
      const StoredMatrix matrix(type.type, shape.rows, shape.columns);
      for (const std::size_t tokens : {1U, 33U}) {
        SCOPED_TRACE(std::string(type.name) + " tokens " + std::to_string(tokens));
        const std::uint32_t activation = kActivations[shape.rows % kActivations.size()];
        const Floats x = inputs(tokens, shape.columns);
        const Floats y = in_all_orders([&](Device& device) {
          Floats result(tokens * shape.rows);
          KernelRun run(device, "matmul_mat");
          run.constant(GANDER_WEIGHT_TYPES, type_bit(type.type));
          run.in(matrix.data());
          run.in(view(x));
          run.out(result);
          run.parameters(MatmulParameters{number(shape.rows), number(shape.columns), number(tokens),
                                          matrix.type_number(), activation});
          run.launch({groups(shape.rows, 32), groups(tokens, 32)}, 128);
          return result;
        });
        matrix.expect_product(x, activation, y);
      }
    }
  }
}

// The ffn value matrix as a model has it: F columns, C rows that fill no tile of 256.
Floats sparse_product(const StoredMatrix& matrix, const Floats& x) {
  const Matrix value = {matrix.type, number(matrix.rows), number(matrix.columns),
                        matrix.bytes.data()};
  std::vector<std::byte> transposed(transposed_value_bytes(value.type, value.rows, value.columns));
  transpose_value(value, transposed);
  const std::size_t tokens = x.size() / matrix.columns;
  return in_all_orders([&](Device& device) {
    Floats result(tokens * matrix.rows);
    KernelRun run(device, "matmul_sparse");
    run.constant(GANDER_WIDTH, value.rows);
    run.constant(GANDER_FFN_WIDTH, value.columns);
    run.constant(GANDER_WEIGHT_TYPES, type_bit(value.type));
    run.in(std::span<const std::byte>(transposed));
    run.in(view(x));
    run.out(result);
    run.parameters(SparseMatmulParameters{number(tokens), matrix.type_number()});
    run.launch({groups(matrix.rows, 256), number(tokens)}, 96, 3 * 256 * sizeof(float));
    return result;
  });
}

// Inputs after relu²: one of eight is not zero, and runs of zeros are long.
Floats sparse_inputs(std::size_t tokens, std::size_t columns) {
  Floats x = inputs(tokens, columns);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % 8 != 3 || i % 200 > 100) x[i] = 0;
  }
  return x;
}

TEST(GpuPrimitives, MatmulSparseOfEveryType) {
  for (const DataTypeInfo& type : all_data_types()) {
    SCOPED_TRACE(type.name);
    for (const std::size_t columns : {512U, 768U}) {
      const StoredMatrix matrix(type.type, 300, columns);
      for (const Floats& x : {sparse_inputs(2, columns), inputs(2, columns)}) {
        matrix.expect_product(x, GANDER_ACTIVATION_NONE, sparse_product(matrix, x));
      }
      EXPECT_EQ(sparse_product(matrix, Floats(columns)), Floats(300));
    }
  }
}

TEST(GpuPrimitives, MatmulSparseDoesNotReadWhatIsZero) {
  StoredMatrix matrix(DataType::F32, 300, 512);
  const Floats x = sparse_inputs(1, 512);
  const Floats expected = sparse_product(matrix, x);
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    const float poison = NAN;
    if (x[i % 512] == 0)
      std::memcpy(matrix.bytes.data() + i * sizeof(float), &poison, sizeof(float));
  }
  EXPECT_EQ(sparse_product(matrix, x), expected);
}

TEST(GpuPrimitives, LookupDecodesARow) {
  for (const DataTypeInfo& type : all_data_types()) {
    SCOPED_TRACE(type.name);
    const StoredMatrix matrix(type.type, 3, 512);
    const std::vector<std::uint32_t> token = {2};
    const Floats x = in_all_orders([&](Device& device) {
      Floats result(512);
      KernelRun run(device, "lookup");
      run.constant(GANDER_WEIGHT_TYPES, type_bit(type.type));
      run.in(std::span<const std::uint32_t>(token));
      run.in(matrix.data());
      run.out(result);
      run.parameters(LookupParameters{512, matrix.type_number()});
      run.launch({groups(512, 96), 1}, 96);
      return result;
    });
    const Doubles expected(matrix.values.begin() + 1024, matrix.values.end());
    expect_near(x, expected, kExact);
  }
}

}  // namespace
}  // namespace gander::gpu
