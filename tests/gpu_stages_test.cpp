#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>

#include "tests/support/backend_check.h"
#include "tests/support/stage_runs.h"
#include "tests/support/test_device.h"

// The kernels of the token program, one by one, on the emulated GPU, against double precision.
namespace gander::gpu {

namespace {

// Activations stay floats, so quantised weights lose nothing either; seen: up to 9e-7.
constexpr double kStageTolerance = 1e-5;

void expect_close(std::string_view what, std::span<const float> actual,
                  const std::vector<double>& expected) {
  EXPECT_LT((relative_error<float, double>(actual, expected)), kStageTolerance) << what;
}

void expect_close(std::string_view what, std::span<const float> actual,
                  std::span<const float> expected) {
  EXPECT_LT((relative_error<float, float>(actual, expected)), kStageTolerance) << what;
}

std::vector<double> projections(const StageCase& token, std::uint32_t layer) {
  std::vector<double> all;
  for (const char* name : {"r", "k", "v"}) {
    const std::vector<double>& part = token.exact(name, layer);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

void check_time_mix_in(Device& device, const StageCase& token, std::uint32_t layer,
                       StageShape shape = {}) {
  const TimeMixIn out = run_time_mix_in(device, token, layer, shape);
  expect_close("projected", out.projected, projections(token, layer));
  // Each low-rank vector alone: they are of different sizes.
  const Config& config = token.config();
  const std::vector<double>& expected = token.exact("low_rank", layer);
  std::size_t begin = 0;
  for (const std::uint32_t rank : {config.rank_w, config.rank_a, config.rank_v, config.rank_g}) {
    expect_close("low_rank", std::span(out.low_rank).subspan(begin, rank),
                 std::vector<double>(expected.begin() + static_cast<std::ptrdiff_t>(begin),
                                     expected.begin() + static_cast<std::ptrdiff_t>(begin + rank)));
    begin += rank;
  }
  expect_close("normalized", out.normalized, token.exact("xx", layer));
}

void check_wkv(Device& device, const StageCase& token, std::uint32_t layer,
               std::uint32_t threads = 128) {
  const Wkv out = run_wkv(device, token, layer, threads);
  expect_close("v_first", out.v_first, token.exact("v", 0));
  expect_close("state", out.state, token.exact("S", layer));
  expect_close("shift", out.shift, token.exact("xx", layer));
  expect_close("gated", out.gated, token.exact("y_gated", layer));
}

void check_ffn_key(Device& device, const StageCase& token, std::uint32_t layer,
                   StageShape shape = {}) {
  const FfnKey out = run_ffn_key(device, token, layer, shape);
  expect_close("hidden", out.hidden, token.exact("h", layer));
  expect_close("normalized", out.normalized, token.exact("ffn_xx", layer));
}

FfnValue run_ffn_value(Device& device, const StageCase& token, std::uint32_t layer,
                       FfnValueShape shape = {}) {
  return run_ffn_value(device, token.weights().layers[layer].ffn.value, token.rounded("h", layer),
                       token.rounded("ffn_xx", layer), token.rounded("x_att", layer), shape);
}

void check_ffn_value(Device& device, const StageCase& token, std::uint32_t layer) {
  const FfnValue out = run_ffn_value(device, token, layer);
  expect_close("x", out.x, token.exact("x_ffn", layer));
  expect_close("shift", out.shift, token.after().ffn_shift(layer));
}

float from_ordered_bits(std::uint32_t bits) {
  return std::bit_cast<float>((bits & 0x80000000U) != 0 ? bits & 0x7fffffffU : ~bits);
}

void check_head(Device& device, const StageCase& token, StageShape shape = {}) {
  const Head out = run_head(device, token, shape);
  expect_close("logits", out.logits, token.exact("logits", token.config().layers));
  for (std::size_t group = 0; group < out.maxima.size() / 2; ++group) {
    const auto begin = out.logits.begin() + static_cast<std::ptrdiff_t>(group * shape.rows);
    const auto end = out.logits.end() - begin > shape.rows ? begin + shape.rows : out.logits.end();
    const auto largest = std::max_element(begin, end);
    EXPECT_EQ(from_ordered_bits(out.maxima[2 * group]), *largest) << "group " << group;
    EXPECT_EQ(out.maxima[2 * group + 1], largest - out.logits.begin()) << "group " << group;
  }
}

void check_all(Device& device, const StageCase& token) {
  expect_close("embedded", run_embed(device, token, 96), token.exact("embedded", 0));
  for (const std::uint32_t layer : {0U, 1U}) {
    SCOPED_TRACE(testing::Message() << "layer " << layer);
    check_time_mix_in(device, token, layer);
    check_wkv(device, token, layer);
    expect_close("time_mix_out", run_time_mix_out(device, token, layer),
                 token.exact("x_att", layer));
    check_ffn_key(device, token, layer);
    check_ffn_value(device, token, layer);
  }
  check_head(device, token);
}

class GpuStages : public testing::TestWithParam<DataType> {};

TEST_P(GpuStages, AgreeWithDoublePrecision) {
  const auto device = open_test_device();
  check_all(*device, StageCase(stage_weights(GetParam())));
}

INSTANTIATE_TEST_SUITE_P(Types, GpuStages,
                         testing::Values(DataType::F32, DataType::F16, DataType::BF16,
                                         DataType::Q8_0, DataType::Q4_0, DataType::Q4_K,
                                         DataType::Q5_K, DataType::Q6_K),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST(GpuStagesTest, WidthsThatNoVectorDivides) {
  const auto device = open_test_device();
  for (const DataType type : {DataType::F32, DataType::F16, DataType::BF16}) {
    SCOPED_TRACE(name(type));
    check_all(*device, StageCase(odd_stage_weights(type)));
  }
}

// kk has no length then: it is divided by 1e-12, not by nothing.
TEST(GpuStagesTest, AHeadWithoutKeysToRemove) {
  const auto device = open_test_device();
  Weights weights = odd_stage_weights(DataType::F32);
  std::fill_n(weights.layers[1].att.k_k.begin(), weights.config.head_size, 0.0F);
  check_wkv(*device, StageCase(std::move(weights)), 1);
}

TEST(GpuStagesTest, MatricesOfDifferentTypesInOneDispatch) {
  const auto device = open_test_device();
  const StageCase token(mixed_stage_weights(0));
  for (const std::uint32_t layer : {0U, 1U}) {
    check_time_mix_in(*device, token, layer);
    check_wkv(*device, token, layer);
  }
}

TEST(GpuStagesTest, AnyNumberOfThreadsAndRows) {
  const auto device = open_test_device();
  const StageCase token(odd_stage_weights(DataType::F32));
  for (const StageShape shape : {StageShape{32, 4}, StageShape{96, 20}, StageShape{256, 32},
                                 StageShape{1024, 400}, StageShape{1024, 4}}) {
    SCOPED_TRACE(testing::Message() << shape.threads << " threads, " << shape.rows << " rows");
    expect_close("embedded", run_embed(*device, token, shape.threads), token.exact("embedded", 0));
    check_time_mix_in(*device, token, 1, shape);
    check_wkv(*device, token, 1, shape.threads);
    expect_close("time_mix_out", run_time_mix_out(*device, token, 1, shape),
                 token.exact("x_att", 1));
    check_ffn_key(*device, token, 1, shape);
    check_head(*device, token, shape);
    for (const std::uint32_t slices : {1U, 3U}) {
      const FfnValue out = run_ffn_value(*device, token, 1, {shape.threads, slices, true});
      expect_close("x", out.x, token.exact("x_ffn", 1));
    }
  }
}

// Every kernel of the token program with as few threads as have something to race for: what the
// thread sanitizer, to which each of them costs milliseconds, has time for.
TEST(GpuStagesTest, TwoSimdGroupsEach) {
  constexpr StageShape kShape = {64, 1024};
  const auto device = open_test_device();
  for (const StageCase& token :
       {StageCase(odd_stage_weights(DataType::F32)), StageCase(stage_weights(DataType::Q4_K))}) {
    expect_close("embedded", run_embed(*device, token, 64), token.exact("embedded", 0));
    check_time_mix_in(*device, token, 1, kShape);
    check_wkv(*device, token, 1, 64);
    expect_close("time_mix_out", run_time_mix_out(*device, token, 1, kShape),
                 token.exact("x_att", 1));
    check_ffn_key(*device, token, 1, kShape);
    expect_close("x", run_ffn_value(*device, token, 1, {64, 2, true}).x, token.exact("x_ffn", 1));
    check_head(*device, token, kShape);
  }
}

TEST(GpuStagesTest, TheSameBitsInAnyOrderOfThreadsAndGroups) {
  constexpr StageShape kShape = {96, 12};
  const auto forward = open_test_device(Order::Forward);
  for (const StageCase& token :
       {StageCase(odd_stage_weights(DataType::F16)), StageCase(stage_weights(DataType::Q8_0))}) {
    for (const Order order : {Order::Reverse, Order::Shuffled}) {
      const auto device = open_test_device(order);
      EXPECT_EQ(run_embed(*device, token, 96), run_embed(*forward, token, 96));
      EXPECT_EQ(run_time_mix_in(*device, token, 1, kShape),
                run_time_mix_in(*forward, token, 1, kShape));
      EXPECT_EQ(run_wkv(*device, token, 1, 96), run_wkv(*forward, token, 1, 96));
      EXPECT_EQ(run_time_mix_out(*device, token, 1, kShape),
                run_time_mix_out(*forward, token, 1, kShape));
      EXPECT_EQ(run_ffn_key(*device, token, 1, kShape), run_ffn_key(*forward, token, 1, kShape));
      EXPECT_EQ(run_head(*device, token, kShape), run_head(*forward, token, kShape));
    }
  }
}

}  // namespace

}  // namespace gander::gpu
