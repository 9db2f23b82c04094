#include "model/matrix_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "model/gguf_export.h"
#include "model/quant/blocks.h"
#include "model/quant/quantizer.h"
#include "model/recipe.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// A model whose rows are whole blocks of every type.
const Weights& weights() {
  static const Weights model = [] {
    Config config = synthetic_config(256);
    config.layers = 2;
    config.heads = 1;
    config.width = config.head_size;
    return make_synthetic_weights(config, 9);
  }();
  return model;
}

Importance some_importance() {
  Importance importance;
  std::vector<float>& columns = importance["blk.1.channel_mix_key.weight"];
  for (std::uint32_t i = 0; i < weights().config.width; ++i) {
    columns.push_back(i % 5 == 0 ? 10.0F : 0.1F);
  }
  return importance;
}

std::vector<std::byte> bytes_of_file(const std::string& path) {
  const MappedFile file(path);
  return {file.bytes().begin(), file.bytes().end()};
}

TEST(MatrixEncoder, AnyNumberOfThreadsWritesTheSameFile) {
  const TemporaryFolder folder;
  const Importance importance = some_importance();
  const ChooseType choose = choose_by({DataType::Q4_K, "rich"});
  std::vector<std::byte> expected;
  for (const unsigned threads : {1U, 2U, 7U}) {
    const std::string path = folder.path("m.gguf");
    ASSERT_TRUE(export_gguf(
        path, weights(), nullptr, choose,
        {.rounding = Rounding::Weighted, .importance = &importance, .threads = threads}));
    const std::vector<std::byte> bytes = bytes_of_file(path);
    if (expected.empty()) expected = bytes;
    EXPECT_EQ(bytes, expected) << threads << " threads";
  }
}

TEST(MatrixEncoder, EncodesRowByRowWithTheImportanceOfItsName) {
  const Importance importance = some_importance();
  const Matrix& matrix = weights().layers[1].ffn.key;
  const auto encoded = [&](std::string_view name, const Importance* of) {
    std::vector<std::byte> all;
    const MatrixEncoder encoder(Rounding::Weighted, of, 2);
    EXPECT_TRUE(encoder.encode(name, matrix, DataType::Q5_K, [&](auto bytes, std::size_t) {
      all.insert(all.end(), bytes.begin(), bytes.end());
      return true;
    }));
    return all;
  };
  // The scale of the importance is of no account, its smoothing is: mean 1, and 0.01.
  std::vector<float> columns = importance.begin()->second;
  double mean = 0;
  for (const float value : columns) mean += value / static_cast<double>(columns.size());
  for (float& value : columns) value = static_cast<float>(value / mean + 0.01);

  const std::size_t row_size = row_bytes(DataType::Q5_K, matrix.columns);
  std::vector<std::byte> expected(matrix.rows * row_size);
  std::vector<std::byte> even(expected.size());
  std::vector<float> row(matrix.columns);
  for (std::uint32_t i = 0; i < matrix.rows; ++i) {
    dequantize(matrix.type, matrix.row(i), row);
    quantize_weighted(DataType::Q5_K, row, columns, {expected.data() + i * row_size, row_size});
    quantize_weighted(DataType::Q5_K, row, {}, {even.data() + i * row_size, row_size});
  }
  ASSERT_NE(expected, even);
  EXPECT_EQ(encoded("blk.1.channel_mix_key.weight", &importance), expected);
  EXPECT_EQ(encoded("blk.0.channel_mix_key.weight", &importance), even);
  EXPECT_EQ(encoded("blk.1.channel_mix_key.weight", nullptr), even);
  // What says nothing changes nothing: a matrix that read only zeros, or whose inputs overflowed.
  for (const float value : {0.0F, INFINITY, NAN}) {
    Importance useless = importance;
    useless.begin()->second.back() = value;
    if (value == 0) std::ranges::fill(useless.begin()->second, 0.0F);
    EXPECT_EQ(encoded("blk.1.channel_mix_key.weight", &useless), even) << value;
  }
}

TEST(MatrixEncoder, AnAlreadyFittingTypeIsCopied) {
  Config config = synthetic_config(256);
  config.layers = 1;
  const Weights model = make_synthetic_weights(config, 9, DataType::Q4_K, DataType::Q8_0);
  const Matrix& matrix = model.layers[0].ffn.key;
  std::vector<std::byte> all;
  const MatrixEncoder encoder(Rounding::Weighted, nullptr, 1);
  encoder.encode("m", matrix, DataType::Q4_K, [&](auto bytes, std::size_t) {
    all.insert(all.end(), bytes.begin(), bytes.end());
    return true;
  });
  EXPECT_EQ(all, std::vector<std::byte>(matrix.data, matrix.data + matrix.size()));
}

class BadWeights : public ::testing::Test {
 protected:
  /// Encoding a matrix of zeros with this value at row 100, column 5.
  void encode(float value, DataType type) {
    std::vector<float> values(200 * 256);
    values[100 * 256 + 5] = value;
    values[150 * 256] = value;
    const Matrix matrix = {DataType::F32, 200, 256, std::as_bytes(std::span(values)).data()};
    const MatrixEncoder encoder(Rounding::Weighted, nullptr, 3);
    encoder.encode("blk.0.x", matrix, type, [](auto, std::size_t) { return true; });
  }
};

TEST_F(BadWeights, AreRefusedByName) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    for (const DataType type : {DataType::F32, DataType::BF16, DataType::F16, DataType::Q4_K}) {
      EXPECT_THAT([&] { encode(bad, type); },
                  ThrowsMessage<Error>(
                      AllOf(HasSubstr("blk.0.x: row 100, column 5 is"), HasSubstr("damaged"))));
    }
  }
  for (const DataType type : {DataType::F16, DataType::Q8_0, DataType::Q4_K}) {
    EXPECT_THAT([&] { encode(7e4F, type); },
                ThrowsMessage<Error>(HasSubstr("70000, too large for")));
  }
  EXPECT_NO_THROW(encode(7e4F, DataType::BF16));
  EXPECT_NO_THROW(encode(65504.0F, DataType::Q4_K));
}

TEST_F(BadWeights, LeaveNoFile) {
  const TemporaryFolder folder;
  Config config = synthetic_config();
  config.layers = 1;
  Weights model = make_synthetic_weights(config, 1);
  const auto expect_refused = [&](const std::string& tensor) {
    EXPECT_THAT(
        [&] {
          export_gguf(folder.path("m.gguf"), model, nullptr,
                      store_as(DataType::Q8_0, DataType::Q8_0));
        },
        ThrowsMessage<Error>(HasSubstr(tensor)));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
  };
  model.layers[0].att.k_k[3] = NAN;
  expect_refused("blk.0.time_mix_k_k.weight");
  model.layers[0].att.k_k[3] = 0;
  std::vector<float> head = dequantized(model.head);
  head.back() = INFINITY;
  model.head = {DataType::F32, model.head.rows, model.head.columns,
                std::as_bytes(std::span(head)).data()};
  expect_refused("output.weight");
}

TEST(GgufExportProgress, CountsEveryWeightAndCanGiveUp) {
  const TemporaryFolder folder;
  const std::string path = folder.path("m.gguf");
  const ChooseType choose = store_as(DataType::Q8_0, DataType::Q8_0);
  std::uint64_t expected = 0;
  for (const GgufTensor& tensor : exported_tensors(weights(), choose)) {
    std::uint64_t count = 1;
    for (const std::uint64_t size : tensor.shape) count *= size;
    expected += count;
  }
  std::uint64_t last = 0;
  EXPECT_TRUE(export_gguf(path, weights(), nullptr, choose, {.progress = [&](std::uint64_t done) {
                            EXPECT_GT(done, last);
                            last = done;
                            return true;
                          }}));
  EXPECT_EQ(last, expected);
  std::filesystem::remove(path);
  int calls = 0;
  EXPECT_FALSE(export_gguf(path, weights(), nullptr, choose,
                           {.progress = [&](std::uint64_t) { return ++calls < 5; }}));
  EXPECT_EQ(calls, 5);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path("")));
}

TEST(MappedFileRelease, DropsPagesOfFilesOnlyAndTheyComeBack) {
  const TemporaryFolder folder;
  const std::string path = folder.path("f");
  std::string text(100'000, 'a');
  text[50'000] = 'b';
  std::ofstream(path, std::ios::binary) << text;
  const MappedFile file(path);
  const std::string before(reinterpret_cast<const char*>(file.bytes().data()), text.size());
  MappedFile::release(file.bytes());
  MappedFile::release(file.bytes().subspan(5000, 70'000));
  EXPECT_EQ(std::memcmp(file.bytes().data(), text.data(), text.size()), 0);
  EXPECT_EQ(before, text);
  // What is not a file keeps its bytes.
  MappedFile::release(std::as_bytes(std::span(text)));
  EXPECT_EQ(before, text);
}

TEST(Parallel, CallsEachIndexOnce) {
  for (const unsigned threads : {1U, 3U, 16U}) {
    for (const std::size_t count : {0U, 1U, 5U, 1000U}) {
      std::vector<std::atomic<int>> calls(count);
      parallel_for(threads, count, [&](std::size_t i) { ++calls[i]; });
      for (const std::atomic<int>& call : calls) EXPECT_EQ(call, 1);
    }
  }
}

}  // namespace
}  // namespace gander
