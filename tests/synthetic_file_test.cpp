#include "bench/synthetic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "backend/reference/reference_backend.h"
#include "base/mapped_file.h"
#include "bench/random_weights.h"
#include "model/quant/blocks.h"
#include "tests/support/temporary_folder.h"

namespace gander {
namespace {

SyntheticOptions tiny(DataType type) {
  SyntheticOptions options;
  options.config = synthetic_shapes().front().config;
  options.large = type;
  return options;
}

TEST(RandomWeights, HaveTheWantedMeanAndSizeInEveryType) {
  for (const DataTypeInfo& type : all_data_types()) {
    SCOPED_TRACE(type.name);
    std::vector<std::byte> bytes(row_bytes(type.type, 1 << 18));
    RandomWeights(7).fill(type.type, bytes, 0.02F);
    std::vector<float> values(1 << 18);
    dequantize(type.type, bytes.data(), values);
    double sum = 0;
    double squares = 0;
    for (const double value : values) {
      sum += value;
      squares += value * value;
    }
    const auto count = static_cast<double>(values.size());
    EXPECT_NEAR(sum / count, 0, 0.0003);
    EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.0003);
  }
}

TEST(SyntheticFile, LeavesTheWantedShareOfHiddenUnitsZero) {
  const TemporaryFolder folder;
  for (const DataType type : {DataType::Q4_K, DataType::Q8_0, DataType::F16}) {
    for (const double wanted : {0.5, 0.87}) {
      SCOPED_TRACE(fmt::format("{} {}", name(type), wanted));
      SyntheticOptions options = tiny(type);
      options.zeros = wanted;
      write_synthetic_file(folder.path("model.gguf"), options);
      ReferenceBackend backend(std::make_shared<const Weights>(
          load_weights(open_checkpoint(folder.path("model.gguf")))));
      EXPECT_EQ(backend.config(), options.config);
      double zeros = 0;
      double hidden = 0;
      backend.set_hook([&](std::string_view name, std::uint32_t, std::span<const double> values) {
        if (name != "h") return;
        zeros += static_cast<double>(std::ranges::count(values, 0.0));
        hidden += static_cast<double>(values.size());
      });
      backend.forward(std::vector<TokenId>{0, 300, 40, 5}, Logits::None, {});
      // The narrow model's few groups round the shift more than a real one's.
      EXPECT_NEAR(zeros / hidden, wanted, 0.04);
    }
  }
}

TEST(SyntheticFile, IsTheSameForTheSameSeed) {
  const TemporaryFolder folder;
  SyntheticOptions options = tiny(DataType::Q5_K);
  const auto content = [&] {
    write_synthetic_file(folder.path("model.gguf"), options);
    const MappedFile file(folder.path("model.gguf"));
    return std::vector<std::byte>(file.bytes().begin(), file.bytes().end());
  };
  const std::vector<std::byte> first = content();
  EXPECT_EQ(content(), first);
  options.seed = 2;
  EXPECT_NE(content(), first);
  EXPECT_NEAR(static_cast<double>(first.size()), static_cast<double>(synthetic_file_size(options)),
              1 << 18);
}

TEST(SyntheticFile, HasATokenizerOfTheWholeVocabulary) {
  const Tokenizer tokenizer = synthetic_tokenizer(65536);
  EXPECT_EQ(tokenizer.size(), 65530U);
  const std::string text = "the river ran, \xff\x80";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

}  // namespace
}  // namespace gander
