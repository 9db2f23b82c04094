#include "model/matrix_encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/parallel.h"
#include "model/quant/blocks.h"
#include "model/quant/quantizer.h"

namespace gander {

namespace {

constexpr std::size_t kBatchWeights = std::size_t{1} << 22;
constexpr std::size_t kRowsOfJob = 8;  // a thread takes this many at a time
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// The largest magnitude a type can hold: its floats or its scales are binary16, or it has the
// range of F32.
float largest_value(DataType type) {
  return type == DataType::F32 || type == DataType::BF16 ? 0x1.fep127F : 65504.0F;
}

bool all_within(std::span<const float> values, float largest) {
  bool within = true;  // without a branch, so that the loop vectorises; false for a NaN
  for (const float value : values) within &= std::fabs(value) <= largest;
  return within;
}

[[noreturn]] void fail_values(std::string_view name, std::size_t row, DataType type,
                              std::span<const float> values) {
  const auto bad = std::ranges::find_if(
      values, [&](float value) { return !(std::fabs(value) <= largest_value(type)); });
  const auto column = bad - values.begin();
  if (std::isfinite(*bad)) {
    fail("{}: row {}, column {} is {}, too large for {}", name, row, column, *bad, info(type).name);
  }
  fail("{}: row {}, column {} is {}: the checkpoint is damaged", name, row, column, *bad);
}

// Columns that the text never used must keep some weight: another text may use them. A hundredth
// of the mean changes nothing for the others. Scaled to a mean of 1.
std::vector<float> smoothed(const std::vector<float>& importance) {
  double sum = 0;
  for (const float value : importance) sum += value;
  // Nothing was measured, or the model's activations overflow: then all columns are the same.
  if (!(sum > 0) || !std::isfinite(sum)) return {};
  const double mean = sum / static_cast<double>(importance.size());
  std::vector<float> result(importance);
  for (float& value : result) value = static_cast<float>(value / mean + 0.01);
  return result;
}

}  // namespace

void require_finite(std::string_view name, std::span<const float> values) {
  if (!all_within(values, largest_value(DataType::F32))) {
    fail_values(name, 0, DataType::F32, values);
  }
}

bool MatrixEncoder::encode(std::string_view name, const Matrix& matrix, DataType type,
                           const Take& take) const {
  std::vector<float> importance;
  if (importance_ != nullptr && rounding_ == Rounding::Weighted) {
    if (const auto found = importance_->find(name); found != importance_->end()) {
      importance = smoothed(found->second);
    }
  }
  const std::size_t row_size = row_bytes(type, matrix.columns);
  const std::size_t batch = std::clamp<std::size_t>(kBatchWeights / matrix.columns, 1, matrix.rows);
  std::vector<std::byte> bytes(batch * row_size);

  for (std::size_t first = 0; first < matrix.rows; first += batch) {
    const std::size_t rows = std::min(batch, matrix.rows - first);
    std::atomic<std::size_t> bad_row{kNone};
    const auto encode_rows = [&](std::size_t job) {
      std::vector<float> values(matrix.columns);
      for (std::size_t i = job * kRowsOfJob; i < std::min(rows, (job + 1) * kRowsOfJob); ++i) {
        const std::span<std::byte> target(bytes.data() + i * row_size, row_size);
        dequantize(matrix.type, matrix.row(first + i), values);
        if (!all_within(values, largest_value(type))) {
          std::size_t seen = bad_row;
          while (first + i < seen && !bad_row.compare_exchange_weak(seen, first + i)) continue;
        } else if (type == matrix.type) {
          std::copy_n(matrix.row(first + i), row_size, target.data());
        } else if (rounding_ == Rounding::Nearest) {
          quantize(type, values, target);
        } else {
          quantize_weighted(type, values, importance, target);
        }
      }
    };
    parallel_for(threads_, (rows + kRowsOfJob - 1) / kRowsOfJob, encode_rows);
    if (bad_row != kNone) {
      std::vector<float> values(matrix.columns);
      dequantize(matrix.type, matrix.row(bad_row), values);
      fail_values(name, bad_row, type, values);
    }
    MappedFile::release({matrix.row(first), rows * matrix.row_size()});
    if (!take({bytes.data(), rows * row_size}, rows * matrix.columns)) return false;
  }
  return true;
}

}  // namespace gander
