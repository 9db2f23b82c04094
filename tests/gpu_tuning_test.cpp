#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "backend/gpu/recording_device.h"
#include "backend/gpu/tuning.h"
#include "base/error.h"
#include "tests/support/sparse_model.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"

namespace gander::gpu {
namespace {

LaunchShapes some_shapes() {
  LaunchShapes shapes;
  shapes.time_mix_in = {128, 64};
  shapes.time_mix_out = {32, 4};
  shapes.ffn_key = {512, 128};
  shapes.head = {256, 256};
  shapes.wkv_threads = 1024;
  shapes.value_threads = 128;
  shapes.value_slices = 2;
  return shapes;
}

class TuningFile : public ::testing::Test {
 protected:
  void write(const std::string& text) { std::ofstream(path) << text; }
  std::string error() {
    try {
      stored_shapes(path, info, weights);
    } catch (const Error& failure) {
      return failure.what();
    }
    return "no error";
  }

  TemporaryFolder folder;
  std::string path = folder.path("deep/tuning.json");
  DeviceInfo info = apple_gpu();
  Weights weights = make_synthetic_weights(synthetic_config(), 1, DataType::F16);
};

TEST_F(TuningFile, KeepsShapesOfDevicesAndModelsApart) {
  EXPECT_EQ(stored_shapes(path, info, weights), std::nullopt);
  store_shapes(path, info, weights, some_shapes());
  EXPECT_EQ(stored_shapes(path, info, weights), some_shapes());
  DeviceInfo other = info;
  other.name = "another GPU";
  EXPECT_EQ(stored_shapes(path, other, weights), std::nullopt);
  const Weights quantized =
      make_synthetic_weights(synthetic_config(), 1, DataType::Q8_0, DataType::Q8_0);
  EXPECT_EQ(stored_shapes(path, info, quantized), std::nullopt);
  LaunchShapes changed = some_shapes();
  changed.wkv_threads = 64;
  store_shapes(path, other, weights, changed);
  EXPECT_EQ(stored_shapes(path, info, weights), some_shapes());
  EXPECT_EQ(stored_shapes(path, other, weights), changed);
}

TEST_F(TuningFile, MalformedFilesAreRefusedByField) {
  store_shapes(path, info, weights, some_shapes());
  std::string text;
  std::getline(std::ifstream(path), text, '\0');
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  for (const auto& bad :
       {std::string("{"), std::string("[]"), with("\"version\": 1", "\"version\": 2"),
        with("\"shapes\"", "\"forms\"")}) {
    write(bad);
    EXPECT_THAT(error(), ::testing::HasSubstr("no tuning file")) << bad;
  }
  for (const auto& [from, to] : {std::pair{"512,", "511,"},
                                 {"512,", "-512,"},
                                 {"512,", "\"512\","},
                                 {"512,", "2048,"},
                                 {"\"ffn_key\"", "\"key\""}}) {
    write(with(from, to));
    EXPECT_THAT(error(), ::testing::HasSubstr("\"ffn_key\"")) << to;
  }
}

TEST(Tune, TriesEverySettingAndCanBeCancelled) {
  const TemporaryFolder folder;
  const Weights weights =
      make_synthetic_weights(synthetic_config(), 1, DataType::F32, DataType::F32);
  RecordingDevice device(apple_gpu());
  std::size_t calls = 0;
  const std::optional<Tuned> tuned = tune(weights, device, [&](double done) {
    EXPECT_LT(done, 1.0);
    ++calls;
    return true;
  });
  ASSERT_TRUE(tuned.has_value());
  EXPECT_EQ(tuned->stages.size(), 6U);
  EXPECT_GT(calls, 50U);
  EXPECT_EQ(tune(weights, device, [](double) { return false; }), std::nullopt);
}

}  // namespace
}  // namespace gander::gpu
