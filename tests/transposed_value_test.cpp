#include "backend/gpu/transposed_value.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "model/quant/blocks.h"
#include "tests/support/synthetic_model.h"

namespace gander::gpu {

namespace {

struct Source {
  std::vector<std::byte> bytes;
  Matrix matrix;
};

// Random bits for levels and scales, so that every bit of the layout matters; d and dmin, which
// could be NaN, are small numbers.
Source random_matrix(DataType type, std::uint32_t rows, std::uint32_t columns) {
  std::mt19937 random(rows * 31 + columns);
  std::vector<std::byte> bytes(row_bytes(type, columns) * rows);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  const auto half_at = [&](std::size_t offset) {
    const std::uint16_t half = float_to_half(0.01F + static_cast<float>(random() % 100) / 64);
    std::memcpy(bytes.data() + offset, &half, 2);
  };
  const std::size_t step = info(type).block_bytes;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    switch (type) {
      case DataType::F32: {
        const float value = static_cast<float>(random() % 1000) - 500;
        std::memcpy(bytes.data() + at, &value, 4);
        break;
      }
      case DataType::BF16: {
        const std::uint16_t value = float_to_bfloat16(static_cast<float>(random() % 100) - 50);
        std::memcpy(bytes.data() + at, &value, 2);
        break;
      }
      case DataType::Q4_K:
      case DataType::Q5_K:
        half_at(at + 2);
        half_at(at);
        break;
      case DataType::Q6_K:
        half_at(at + 208);
        break;
      default:
        half_at(at);
    }
  }
  Source source{std::move(bytes), {type, rows, columns, nullptr}};
  source.matrix.data = source.bytes.data();
  return source;
}

// Reads the layout of kernels/README.md, one value at a time.
class Transposed {
 public:
  Transposed(DataType type, std::uint32_t rows, std::uint32_t columns,
             const std::vector<std::byte>& bytes)
      : type_(type), padded_((rows + 255) / 256 * 256), columns_(columns), bytes_(bytes) {}

  float value(std::uint32_t c, std::uint32_t f) const {
    const std::size_t p = padded_;
    const std::size_t levels = part(0, columns_ * p / 2);  // where the part after nibbles begins
    const std::uint32_t nibble = at<std::uint32_t>(f * p / 2 + c / 8 * 4) >> (c % 8 * 4) & 15;
    switch (type_) {
      case DataType::F32:
        return at<float>((f * p + c) * 4);
      case DataType::F16:
        return half_to_float(at<std::uint16_t>((f * p + c) * 2));
      case DataType::BF16:
        return bfloat16_to_float(at<std::uint16_t>((f * p + c) * 2));
      case DataType::Q8_0:
        return half(part(0, columns_ * p) + (f / 32 * p + c) * 2) *
               static_cast<float>(at<std::int8_t>(f * p + c));
      case DataType::Q4_0:
        return half(levels + (f / 32 * p + c) * 2) * (static_cast<float>(nibble) - 8);
      case DataType::Q4_K:
        return by_pair(levels, c, f, nibble);
      case DataType::Q5_K: {
        const std::uint32_t fifth =
            at<std::uint32_t>(levels + f * p / 8 + c / 32 * 4) >> (c % 32) & 1;
        return by_pair(part(levels, columns_ * p / 8), c, f, nibble + 16 * fifth);
      }
      case DataType::Q6_K: {
        const std::uint32_t pair =
            at<std::uint32_t>(levels + f * p / 4 + c / 16 * 4) >> (c % 16 * 2) & 3;
        const std::size_t scales = part(levels, columns_ * p / 4);
        const std::size_t d = part(scales, columns_ / 16 * p);
        const float scale = half(d + (f / 256 * p + c) * 2) *
                            static_cast<float>(at<std::int8_t>(scales + f / 16 * p + c));
        return scale * (static_cast<float>(nibble + 16 * pair) - 32);
      }
    }
    return 0;
  }

 private:
  template <typename T>
  T at(std::size_t offset) const {
    T result;
    std::memcpy(&result, &bytes_.at(offset + sizeof(T) - 1) - (sizeof(T) - 1), sizeof(T));
    return result;
  }
  float half(std::size_t offset) const { return half_to_float(at<std::uint16_t>(offset)); }
  static std::size_t part(std::size_t begin, std::size_t bytes) {
    return begin + (bytes + 255) / 256 * 256;
  }
  float by_pair(std::size_t pairs, std::uint32_t c, std::uint32_t f, std::uint32_t level) const {
    const std::size_t p = padded_;
    const std::size_t d = part(pairs, columns_ / 32 * p * 2) + (f / 256 * p + c) * 4;
    const std::size_t pair = pairs + (f / 32 * p + c) * 2;
    const float scale = half(d) * at<std::uint8_t>(pair);
    const float minimum = half(d + 2) * at<std::uint8_t>(pair + 1);
    return scale * static_cast<float>(level) - minimum;
  }

  DataType type_;
  std::uint32_t padded_, columns_;
  const std::vector<std::byte>& bytes_;
};

class TransposedValue : public testing::TestWithParam<DataType> {};

TEST_P(TransposedValue, HasTheSameValues) {
  const DataType type = GetParam();
  const bool floats = info(type).block_size == 1;
  const std::uint32_t columns = floats ? 301 : info(type).block_size == 32 ? 288 : 512;
  for (const std::uint32_t rows : {256U, 391U}) {
    const Source source = random_matrix(type, rows, columns);
    std::vector<std::byte> out(transposed_value_bytes(type, rows, columns));
    transpose_value(source.matrix, out);
    const Transposed transposed(type, rows, columns, out);
    const std::vector<float> expected = dequantized(source.matrix);
    for (std::uint32_t c = 0; c < rows; ++c) {
      for (std::uint32_t f = 0; f < columns; ++f) {
        ASSERT_EQ(transposed.value(c, f), expected[std::size_t{c} * columns + f])
            << name(type) << " channel " << c << " of " << rows << ", unit " << f;
      }
    }
    for (std::uint32_t c = rows; c < (rows + 255) / 256 * 256; ++c) {
      for (std::uint32_t f = 0; f < columns; ++f) ASSERT_EQ(transposed.value(c, f), 0);
    }
  }
}

// As they are uploaded: a piece at a time, its units by several threads.
TEST_P(TransposedValue, PiecesMakeTheWhole) {
  const DataType type = GetParam();
  const std::uint32_t columns = info(type).block_size == 256 ? 1280 : 1248;
  const Source source = random_matrix(type, 300, columns);
  std::vector<std::byte> whole(transposed_value_bytes(type, 300, columns));
  transpose_value(source.matrix, whole);
  std::vector<std::byte> collected(whole.size(), std::byte{0x5a});
  for (const Units piece : {Units{768, columns}, Units{0, 256}, Units{256, 768}}) {
    std::vector<std::byte> part(transposed_value_bytes(type, 300, piece.end - piece.begin));
    for (std::uint32_t begin = piece.begin; begin < piece.end; begin += 256) {
      const std::uint32_t end = std::min(begin + 256, piece.end);
      transpose_value(source.matrix, {begin, end}, piece, part);
    }
    std::uint64_t begin = 0;
    for (const ByteRange& place : places_of_piece(source.matrix, piece)) {
      ASSERT_LE(place.offset + place.size, collected.size());
      ASSERT_LE(begin + place.size, part.size());
      std::memcpy(collected.data() + place.offset, part.data() + begin, place.size);
      begin += place.size;
    }
    EXPECT_EQ(begin, part.size()) << "no gaps";
  }
  EXPECT_EQ(collected, whole);
}

INSTANTIATE_TEST_SUITE_P(Types, TransposedValue,
                         testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                         DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                         DataType::Q5_K, DataType::Q6_K),
                         [](const auto& type) { return std::string(name(type.param)); });

}  // namespace

}  // namespace gander::gpu
