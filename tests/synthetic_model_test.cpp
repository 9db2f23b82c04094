#include "tests/support/synthetic_model.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gander {
namespace {

TEST(SyntheticModel, IsEqualInEveryFloatType) {
  const Config config = synthetic_config();
  const Weights f32 = make_synthetic_weights(config, 5);
  for (const DataType type : {DataType::F16, DataType::BF16}) {
    const Weights other = make_synthetic_weights(config, 5, type, type);
    EXPECT_EQ(dequantized(f32.emb), dequantized(other.emb));
    EXPECT_EQ(dequantized(f32.layers[6].att.v2), dequantized(other.layers[6].att.v2));
    EXPECT_EQ(dequantized(f32.layers[3].ffn.value), dequantized(other.layers[3].ffn.value));
    EXPECT_EQ(f32.layers[2].att.w0, other.layers[2].att.w0);
  }
  EXPECT_NE(dequantized(f32.emb), dequantized(make_synthetic_weights(config, 6).emb));
}

TEST(SyntheticModel, MatricesHaveTheScaleTheyClaim) {
  const Weights weights = make_synthetic_weights(synthetic_config(), 5);
  double squares = 0;
  for (const float value : dequantized(weights.head)) squares += value * value;
  EXPECT_NEAR(squares / weights.head.rows, 1.0, 0.02);
}

}  // namespace
}  // namespace gander
