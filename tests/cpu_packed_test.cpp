#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/packed.h"
#include "model/quant/blocks.h"
#include "tests/support/backend_check.h"

namespace gander {
namespace {

// A random matrix of a quantised type, stored and packed.
struct Example {
  std::vector<std::byte> bytes;
  Matrix stored;
  PackedMatrix packed;
  std::vector<std::byte> memory;  // of the packed matrix, with room to align

  void pack() {
    for (std::size_t tile = 0; tile < packed.tiles; ++tile) pack_tile(stored, packed, tile);
  }
};

Example example(DataType type, std::uint32_t rows, std::uint32_t columns, std::size_t tile_rows) {
  Example e;
  e.stored = {type, rows, columns, nullptr};
  e.bytes.resize(e.stored.size());
  e.stored.data = e.bytes.data();
  std::mt19937 random(rows + columns);
  std::normal_distribution<float> normal(0.01F, 0.05F);
  std::vector<float> row(columns);
  for (std::size_t i = 0; i < rows; ++i) {
    for (float& value : row) value = normal(random);
    // One value far out in some rows: levels reach both ends of their range.
    if (i % 5 == 0) row[i % columns] = i % 2 == 0 ? 1.0F : -1.0F;
    quantize(type, row, std::span(e.bytes).subspan(i * e.stored.row_size(), e.stored.row_size()));
  }
  e.packed = describe_packed(e.stored, tile_rows);
  e.memory.resize(e.packed.size() + 64);
  void* start = e.memory.data();
  std::size_t space = e.memory.size();
  e.packed.data = static_cast<std::byte*>(std::align(64, e.packed.size(), start, space));
  e.pack();
  return e;
}

// Activations in 8 bits, with their memory.
struct QuantizedInput {
  std::vector<std::int8_t> q;
  std::vector<float> scale, scaled_sum;
  std::vector<std::int16_t> sum;
  std::vector<std::uint32_t> nonzero;
  QuantizedRows rows;

  QuantizedInput(std::size_t tokens, std::size_t columns)
      : q(tokens * columns),
        scale(tokens * columns / 32),
        scaled_sum(scale.size()),
        sum(tokens * columns / 16),
        nonzero(scale.size()),
        rows{q.data(), scale.data(), scaled_sum.data(), sum.data(), nonzero.data(), columns} {}
};

// Mostly zeros, as after relu^2, when `sparse`; a group of only zeros in any case.
std::vector<float> activations(std::size_t count, bool sparse) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& value : x) value = sparse && random() % 8 != 0 ? 0.0F : normal(random);
  std::fill_n(x.begin(), 32, 0.0F);
  return x;
}

// Scratch for packed_tiles, on a cache line as the backend's.
struct Scratch {
  explicit Scratch(std::size_t tokens) : memory(product_scratch(tokens) + 16) {}

  float* data() {
    void* start = memory.data();
    std::size_t space = memory.size() * sizeof(float);
    return static_cast<float*>(std::align(64, space - 64, start, space));
  }
  std::vector<float> memory;
};

class CpuPacked : public ::testing::TestWithParam<std::tuple<DataType, std::size_t>> {
 public:
  static std::string test_name(const ::testing::TestParamInfo<ParamType>& info) {
    return std::string(name(std::get<0>(info.param))) +
           (std::get<1>(info.param) == kRowTile ? "_rows" : "_columns");
  }
};

TEST_P(CpuPacked, ProductIsThatOfTheDecodedNumbers) {
  struct Shape {
    std::uint32_t rows, columns;
  };
  const auto [type, tile_rows] = GetParam();
  const bool big_blocks = info(type).block_size == 256;
  const std::vector<Shape> shapes =
      big_blocks ? std::vector<Shape>{{32, 256}, {64, 768}, {277, 512}, {5, 256}}
                 : std::vector<Shape>{{32, 32}, {64, 256}, {277, 352}, {5, 96}, {16, 544}};
  for (const Shape& shape : shapes) {
    const Example matrix = example(type, shape.rows, shape.columns, tile_rows);
    for (const std::size_t tokens : {1U, 2U, 4U, 19U}) {
      for (const bool sparse : {false, true}) {
        const std::vector<float> x = activations(tokens * shape.columns, sparse);
        for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
          QuantizedInput input(tokens, shape.columns);
          for (std::size_t t = 0; t < tokens; ++t) {
            (*kernels)->quantize(x.data() + t * shape.columns, input.rows.row(t), 0, shape.columns);
          }
          std::vector<double> expected;
          std::vector<float> row(shape.columns);
          for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t i = 0; i < shape.rows; ++i) {
              dequantize(type, matrix.stored.row(i), row);
              double sum = 0.5;  // what y holds before
              for (std::size_t j = 0; j < shape.columns; ++j) {
                const std::size_t at = t * shape.columns + j;
                sum += row[j] * static_cast<double>(input.scale[at / 32]) * input.q[at];
              }
              expected.push_back(sum);
            }
          }
          std::vector<float> y(tokens * shape.rows, 0.5F);
          Scratch scratch(tokens);
          (*kernels)->packed_tiles({matrix.packed, x.data(), input.rows, tokens, y.data(),
                                    shape.rows, Epilogue::Add, scratch.data()},
                                   0, matrix.packed.tiles);
          const double error = relative_error<float, double>(y, expected);
          EXPECT_LT(error, 3e-6) << shape.rows << " x " << shape.columns << ", " << tokens
                                 << " tokens, " << (*kernels)->instruction_set;
        }
      }
    }
  }
}

// A chunk of tokens and each token alone: the same bits.
TEST_P(CpuPacked, AnyNumberOfTokensLeavesTheSameBits) {
  const auto [type, tile_rows] = GetParam();
  const std::size_t tokens = 21;
  const std::size_t columns = 512;
  const std::size_t rows = 160;
  const Example matrix = example(type, rows, columns, tile_rows);
  const std::vector<float> x = activations(tokens * columns, true);
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    QuantizedInput input(tokens, columns);
    Scratch scratch(tokens);
    std::vector<float> together(tokens * rows);
    std::vector<float> alone(tokens * rows);
    for (std::size_t t = 0; t < tokens; ++t) {
      (*kernels)->quantize(x.data() + t * columns, input.rows.row(t), 0, columns);
      (*kernels)->packed_tiles(
          {matrix.packed, x.data() + t * columns, input.rows.row(t), 1, alone.data() + t * rows,
           rows, Epilogue::SquaredRelu, scratch.data()},
          0, matrix.packed.tiles);
    }
    (*kernels)->packed_tiles({matrix.packed, x.data(), input.rows, tokens, together.data(), rows,
                              Epilogue::SquaredRelu, scratch.data()},
                             0, matrix.packed.tiles);
    EXPECT_EQ(together, alone) << (*kernels)->instruction_set;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, CpuPacked,
                         ::testing::Combine(::testing::Values(DataType::Q8_0, DataType::Q4_0,
                                                              DataType::Q4_K, DataType::Q5_K,
                                                              DataType::Q6_K),
                                            ::testing::Values(kRowTile, kColumnTile)),
                         CpuPacked::test_name);

// Every bit pattern of the weights, extremes of the activations: no product may overflow.
// Every bit pattern of the weights, extremes of the activations: no product may overflow.
TEST_P(CpuPacked, NothingSaturates) {
  const auto [type, tile_rows] = GetParam();
  // What Q4_K and Q5_K subtract leaves a tenth or less of the sums.
  const double tolerance = type == DataType::Q4_K || type == DataType::Q5_K ? 1e-4 : 3e-6;
  Example matrix = example(type, 32, 256, tile_rows);
  std::mt19937 random(9);
  const std::size_t block = info(type).block_bytes;
  for (std::size_t i = 0; i < matrix.bytes.size(); ++i) {
    const std::size_t at = i % block;
    const bool scale = type == DataType::Q6_K ? at >= 208 : at < (block > 100 ? 4 : 2);
    if (!scale) matrix.bytes[i] = random() % 3 == 0 ? std::byte{0x80} : std::byte{0xff};
  }
  matrix.pack();
  for (const float sign : {1.0F, -1.0F}) {
    const std::vector<float> x(256, sign);  // q = 127 or -127
    for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
      QuantizedInput input(1, 256);
      (*kernels)->quantize(x.data(), input.rows.row(0), 0, 256);
      ASSERT_EQ(std::abs(input.q[0]), 127);
      std::vector<float> y(32);
      (*kernels)->packed_tiles(
          {matrix.packed, x.data(), input.rows, 1, y.data(), 32, Epilogue::Store, nullptr}, 0, 1);
      std::vector<double> expected(32);
      std::vector<float> row(256);
      for (std::size_t i = 0; i < 32; ++i) {
        dequantize(type, matrix.stored.row(i), row);
        for (const float weight : row) expected[i] += static_cast<double>(weight) * sign;
      }
      EXPECT_LT((relative_error<float, double>(y, expected)), tolerance)
          << (*kernels)->instruction_set;
    }
  }
}

class CpuFloatTiles : public ::testing::TestWithParam<DataType> {};

TEST_P(CpuFloatTiles, ProductIsThatOfTheNumbersForAnyTokens) {
  struct Shape {
    std::uint32_t rows, columns;
  };
  for (const Shape& shape : {Shape{32, 64}, Shape{277, 45}, Shape{160, 512}, Shape{5, 1}}) {
    const Example matrix = example(GetParam(), shape.rows, shape.columns, kRowTile);
    for (const bool sparse : {false, true}) {
      const std::size_t tokens = 19;
      std::vector<float> x(tokens * shape.columns);
      std::mt19937 random(8);
      std::normal_distribution<float> normal;
      for (float& value : x) value = sparse && random() % 8 != 0 ? 0.0F : normal(random);
      std::vector<double> expected;
      std::vector<float> row(shape.columns);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t i = 0; i < shape.rows; ++i) {
          dequantize(GetParam(), matrix.stored.row(i), row);
          double sum = 0.5;  // what y holds before
          for (std::size_t j = 0; j < shape.columns; ++j) {
            sum += static_cast<double>(row[j]) * x[t * shape.columns + j];
          }
          expected.push_back(sum);
        }
      }
      for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
        const std::string what = std::to_string(shape.rows) + " x " +
                                 std::to_string(shape.columns) + ", " + (*kernels)->instruction_set;
        std::vector<float> together(tokens * shape.rows, 0.5F);
        std::vector<float> alone = together;
        (*kernels)->packed_tiles({matrix.packed,
                                  x.data(),
                                  {},
                                  tokens,
                                  together.data(),
                                  shape.rows,
                                  Epilogue::Add,
                                  nullptr},
                                 0, matrix.packed.tiles);
        for (std::size_t t = 0; t < tokens; ++t) {
          (*kernels)->packed_tiles({matrix.packed,
                                    x.data() + t * shape.columns,
                                    {},
                                    1,
                                    alone.data() + t * shape.rows,
                                    shape.rows,
                                    Epilogue::Add,
                                    nullptr},
                                   0, matrix.packed.tiles);
        }
        EXPECT_LT((relative_error<float, double>(together, expected)), 3e-6) << what;
        EXPECT_EQ(together, alone) << what;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, CpuFloatTiles,
                         ::testing::Values(DataType::F32, DataType::F16, DataType::BF16),
                         [](const auto& p) { return std::string(name(p.param)); });

TEST(CpuQuantize, RoundsToNearestAndDescribesItself) {
  const std::vector<float> x = activations(128, true);
  for (const Kernels* const* kernels = all_kernels(); *kernels != nullptr; ++kernels) {
    QuantizedInput input(1, 128);
    (*kernels)->quantize(x.data(), input.rows.row(0), 0, 128);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(input.scale[i / 32] * static_cast<float>(input.q[i]), x[i],
                  0.5001F * input.scale[i / 32]);
      const bool nonzero = ((input.nonzero[i / 32] >> (i % 32)) & 1) != 0;
      ASSERT_EQ(nonzero, input.q[i] != 0);
    }
    for (std::size_t group = 0; group < 8; ++group) {
      int sum = 0;
      for (std::size_t i = 16 * group; i < 16 * group + 16; ++i) sum += input.q[i];
      EXPECT_EQ(input.sum[group], sum);
    }
    EXPECT_EQ(input.scale[0], 0.0F);
    EXPECT_EQ(input.nonzero[0], 0);
    EXPECT_FLOAT_EQ(input.scaled_sum[1],
                    input.scale[1] * static_cast<float>(input.sum[2] + input.sum[3]));
  }
}

}  // namespace
}  // namespace gander
