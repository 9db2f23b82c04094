#include <gtest/gtest.h>

#include "tests/support/primitive_case.h"

// The primitives of the recurrence.
namespace gander::gpu {
namespace {

TEST(GpuPrimitives, ControlOfK) {
  const std::size_t width = 70;
  const std::size_t count = 3 * width;
  const FloatVector k_a = random_floats(width, 1);
  const FloatVector a = random_floats(count, 2, 0, 1);
  const FloatVector k = random_floats(count, 3);
  const FloatVector adjusted = in_all_orders([&](Device& device) {
    FloatVector changed = k;
    KernelRun run(device, "control_k_v7");
    run.in(view(k_a));
    run.in(view(a));
    run.in_out(changed);
    run.parameters(BroadcastParameters{number(count), number(width)});
    run.launch({groups(count, 64), 1}, 64);
    return changed;
  });
  DoubleVector expected;
  for (std::size_t i = 0; i < count; ++i) {
    expected.push_back(k[i] * (1 + (static_cast<double>(a[i]) - 1) * k_a[i % width]));
  }
  expect_near(adjusted, expected, kExact);
}

// k, v, a, kk of each token, one after the other.
FloatVector packed_by_hand(const std::array<FloatVector, 4>& parts, std::size_t tokens,
                           std::size_t width) {
  FloatVector packed;
  for (std::size_t t = 0; t < tokens; ++t) {
    for (const FloatVector& part : parts) {
      const auto row = part.begin() + static_cast<std::ptrdiff_t>(t * width);
      packed.insert(packed.end(), row, row + static_cast<std::ptrdiff_t>(width));
    }
  }
  return packed;
}

TEST(GpuPrimitives, PackPutsATokenTogether) {
  const std::size_t width = 70;
  const std::size_t tokens = 3;
  std::array<FloatVector, 4> parts;
  for (unsigned i = 0; i < 4; ++i) parts[i] = random_floats(tokens * width, i);
  const FloatVector packed = in_all_orders([&](Device& device) {
    FloatVector result(4 * tokens * width);
    KernelRun run(device, "pack_kvakk");
    for (const FloatVector& part : parts) run.in(view(part));
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
  FloatVector r, w, k, v, a, kk, state;

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
  FloatVector packed() const { return packed_by_hand({k, v, a, kk}, tokens, heads * size); }
  HeadsParameters parameters(std::size_t count) const {
    return {number(count), number(heads), number(size)};
  }

  // y of all tokens, then S.
  DoubleVector expected() const {
    DoubleVector result;
    DoubleVector s(state.begin(), state.end());
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
  FloatVector computed(Device& device, std::size_t step) const {
    const std::size_t width = heads * size;
    const FloatVector n = packed();
    FloatVector s = state;
    FloatVector result;
    for (std::size_t begin = 0; begin < tokens; begin += step) {
      const std::size_t count = std::min(step, tokens - begin);
      FloatVector y(count * width);
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
    const FloatVector result =
        in_all_orders([&](Device& device) { return recurrence.computed(device, 3); });
    expect_near(result, recurrence.expected(), kSums);
  }
}

TEST(GpuPrimitives, TimeMixOfAChunkIsThatOfItsTokens) {
  const Recurrence recurrence(7, 2, 64);
  const auto device = open_test_device();
  const FloatVector whole = recurrence.computed(*device, 7);
  EXPECT_EQ(whole, recurrence.computed(*device, 1));
  EXPECT_EQ(whole, recurrence.computed(*device, 3));
}

TEST(GpuPrimitives, TimeFirstAddsTheBonus) {
  for (const std::size_t size : {20U, 64U, 256U}) {
    const Recurrence x(3, 3, size);
    const std::size_t width = x.heads * size;
    const FloatVector packed = x.packed();
    const FloatVector r_k = random_floats(width, 8);
    const FloatVector y = random_floats(x.tokens * width, 9);
    const FloatVector result = in_all_orders([&](Device& device) {
      FloatVector changed = y;
      KernelRun run(device, "time_first_v7");
      run.in(view(r_k));
      run.in(view(x.r));
      run.in(view(packed));
      run.in_out(changed);
      run.parameters(x.parameters(x.tokens));
      run.launch({groups(x.tokens * x.heads, 4), 1}, 128);
      return changed;
    });
    DoubleVector expected;
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

}  // namespace
}  // namespace gander::gpu
