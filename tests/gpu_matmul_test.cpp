#include <gtest/gtest.h>

#include <string>

#include "backend/gpu/transposed_value.h"
#include "kernels/function_constants.h"
#include "model/quant/blocks.h"
#include "tests/support/primitive_case.h"

// The primitives that multiply matrices, of all types.
namespace gander::gpu {
namespace {

struct StoredMatrix {
  DataType type;
  std::size_t rows, columns;
  std::vector<std::byte> bytes;
  FloatVector values;  // as they are stored

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
  void expect_product(const FloatVector& x, std::uint32_t activation, const FloatVector& y) const {
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
FloatVector inputs(std::size_t tokens, std::size_t columns) {
  const float size = 1.5F / std::sqrt(static_cast<float>(columns));
  return random_floats(tokens * columns, 12, -size, size);
}

TEST(GpuPrimitives, MatmulVecOfEveryTypeAndActivation) {
  for (const DataTypeInfo& type : all_data_types()) {
    for (const Shape& shape : shapes(type.type)) {
      const StoredMatrix matrix(type.type, shape.rows, shape.columns);
      const FloatVector x = inputs(1, shape.columns);
      for (const std::uint32_t activation : kActivations) {
        SCOPED_TRACE(std::string(type.name) + " activation " + std::to_string(activation));
        const FloatVector y = in_all_orders([&](Device& device) {
          FloatVector result(shape.rows);
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
        const FloatVector x = inputs(tokens, shape.columns);
        const FloatVector y = in_all_orders([&](Device& device) {
          FloatVector result(tokens * shape.rows);
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
FloatVector sparse_product(const StoredMatrix& matrix, const FloatVector& x) {
  const Matrix value = {matrix.type, number(matrix.rows), number(matrix.columns),
                        matrix.bytes.data()};
  std::vector<std::byte> transposed(transposed_value_bytes(value.type, value.rows, value.columns));
  transpose_value(value, transposed);
  const std::size_t tokens = x.size() / matrix.columns;
  return in_all_orders([&](Device& device) {
    FloatVector result(tokens * matrix.rows);
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
FloatVector sparse_inputs(std::size_t tokens, std::size_t columns) {
  FloatVector x = inputs(tokens, columns);
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
      for (const FloatVector& x : {sparse_inputs(2, columns), inputs(2, columns)}) {
        matrix.expect_product(x, GANDER_ACTIVATION_NONE, sparse_product(matrix, x));
      }
      EXPECT_EQ(sparse_product(matrix, FloatVector(columns)), FloatVector(300));
    }
  }
}

TEST(GpuPrimitives, MatmulSparseDoesNotReadWhatIsZero) {
  StoredMatrix matrix(DataType::F32, 300, 512);
  const FloatVector x = sparse_inputs(1, 512);
  const FloatVector expected = sparse_product(matrix, x);
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
    const FloatVector x = in_all_orders([&](Device& device) {
      FloatVector result(512);
      KernelRun run(device, "lookup");
      run.constant(GANDER_WEIGHT_TYPES, type_bit(type.type));
      run.in(std::span<const std::uint32_t>(token));
      run.in(matrix.data());
      run.out(result);
      run.parameters(LookupParameters{512, matrix.type_number()});
      run.launch({groups(512, 96), 1}, 96);
      return result;
    });
    const DoubleVector expected(matrix.values.begin() + 1024, matrix.values.end());
    expect_near(x, expected, kExact);
  }
}

}  // namespace
}  // namespace gander::gpu
