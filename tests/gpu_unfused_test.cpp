#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/recording_device.h"
#include "backend/reference/reference_backend.h"
#include "tests/support/backend_check.h"
#include "tests/support/sparse_model.h"
#include "tests/support/synthetic_model.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_device.h"

// The layer recorded operation by operation: how many there are, and that their results are those
// of the fused stages.
namespace gander::gpu {
namespace {

Program unfused_program(const Weights& weights, Device& device) {
  const LaunchShapes shapes = default_shapes(weights.config, device.info());
  const MemoryPlan plan = plan_memory(weights, shapes, device.info());
  const ModelMemory memory = place_model(weights, plan.weights, shapes, device);
  return record_unfused_token(weights.config, memory, make_unfused_buffers(weights.config, device),
                              shapes, device, memory.buffers.token);
}

TEST(GpuUnfused, FiftyDispatchesInEveryLayer) {
  const TemporaryFolder folder;
  const Config config = released_config("2.9b");
  const Weights weights =
      make_sparse_weights(config, DataType::Q4_K, DataType::F16, folder.path("2.9b"));
  RecordingDevice device(apple_gpu());
  const Program program = unfused_program(weights, device);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    EXPECT_EQ(std::ranges::count_if(program.dispatches,
                                    [&](const Dispatch& d) { return d.layer == layer; }),
              50);
  }
  // Besides the layers: the lookup of the embedding, and the head.
  EXPECT_EQ(program.dispatches.size(), 1600U + 2);
  EXPECT_TRUE(std::ranges::all_of(program.dispatches, &Dispatch::barrier));

  const DeviceCounters before = device.counters();
  run(device, program.dispatches, SyncMode::Op);
  EXPECT_EQ(device.counters().submissions - before.submissions, 1602U);
  EXPECT_EQ(device.counters().waits - before.waits, 1602U);
}

// All dispatches fit in Apple's limits for the released sizes (Apple7 and later).
TEST(GpuUnfused, KeepsApplesLimits) {
  const TemporaryFolder folder;
  for (const char* size : {"0.1b", "0.4b", "1.5b", "2.9b", "7.2b", "13.3b"}) {
    const Weights weights =
        make_sparse_weights(released_config(size), DataType::F16, DataType::F16, folder.path(size));
    RecordingDevice device(apple_gpu());
    for (const Dispatch& dispatch : unfused_program(weights, device).dispatches) {
      EXPECT_LE(dispatch.threads, 1024U);
      EXPECT_LE(dispatch.group_memory, 32U << 10) << dispatch.kernel << " " << size;
      EXPECT_LE(dispatch.bindings.size() + 1, 31U);
    }
  }
}

// One model on one device, with buffers and a state for each of the two recordings.
class BothRecordings {
 public:
  explicit BothRecordings(const Weights& weights)
      : device_(open_test_device()),
        shapes_(default_shapes(weights.config, device_->info())),
        recorder_(*device_, weights.config) {
    const MemoryPlan plan = plan_memory(weights, shapes_, device_->info());
    fused_ = place_model(weights, plan.weights, shapes_, *device_);
    upload_weights(weights, fused_.weights, *device_);
    unfused_ = place_model(weights, plan.weights, shapes_, *device_);
    unfused_.weights = fused_.weights;
    buffers_ = make_unfused_buffers(weights.config, *device_);
  }

  Device& device() { return *device_; }
  const Recorder& recorder() const { return recorder_; }
  const LaunchShapes& shapes() const { return shapes_; }
  const ModelMemory& fused() const { return fused_; }
  const ModelMemory& unfused() const { return unfused_; }
  const UnfusedBuffers& buffers() const { return buffers_; }

  std::vector<float> read(const View& view) {
    std::vector<float> values(view.size / sizeof(float));
    device_->read(view, std::as_writable_bytes(std::span(values)));
    return values;
  }

 private:
  std::unique_ptr<Device> device_;
  LaunchShapes shapes_;
  Recorder recorder_;
  ModelMemory fused_, unfused_;
  UnfusedBuffers buffers_;
};

// Runs a program dispatch by dispatch, and stops where a test wants to look.
class Stepper {
 public:
  Stepper(Device& device, Program program) : device_(device), program_(std::move(program)) {}

  /// Goes on until `view` has been written `times` times from here; false when it is not.
  bool run_until_written(const View& view, int times = 1) {
    while (times > 0 && next_ < program_.dispatches.size()) {
      const Dispatch& dispatch = program_.dispatches[next_];
      device_.wait(device_.submit(std::span(program_.dispatches).subspan(next_, 1)));
      ++next_;
      times -= std::ranges::any_of(dispatch.bindings,
                                   [&](const Binding& binding) {
                                     return binding.writes > 0 &&
                                            binding.view.buffer == view.buffer &&
                                            binding.view.offset == view.offset;
                                   })
                   ? 1
                   : 0;
    }
    return times == 0;
  }
  void finish() {
    while (next_ < program_.dispatches.size()) {
      device_.wait(device_.submit(std::span(program_.dispatches).subspan(next_++, 1)));
    }
  }

 private:
  Device& device_;
  Program program_;
  std::size_t next_ = 0;
};

struct Models {
  DataType matrices, low_rank;
  std::uint32_t head_size;
};

class GpuUnfusedStages : public testing::TestWithParam<Models> {};

// Both recordings compute with the same weights in fp32. What differs is the order of sums, and
// through it what comes in from the layers before. As a share of the largest value. Seen: up to
// 4e-6, and 1.2e-5 after the group norm, which magnifies what a head has little of.
constexpr double kUnfusedTolerance = 4e-5;

TEST_P(GpuUnfusedStages, EqualTheFusedOnes) {
  const Models& models = GetParam();
  const Config config = synthetic_config(models.head_size);
  const Weights weights = make_synthetic_weights(config, 3, models.matrices, models.low_rank);
  BothRecordings both(weights);
  Device& device = both.device();
  const LayerDispatcher fused(both.recorder(), both.fused(), both.shapes());
  const UnfusedDispatcher unfused(both.recorder(), both.unfused(), both.shapes(), both.buffers());
  const LayerBuffers& f = both.fused().buffers;
  const UnfusedBuffers& u = both.buffers();
  const std::uint64_t row = config.width * sizeof(float);

  std::map<std::string, double> worst;
  const auto compare = [&](const std::string& what, const View& of_fused, const View& of_unfused) {
    const std::vector<float> expected = both.read(of_fused);
    const std::vector<float> actual = both.read(of_unfused);
    const double error =
        relative_error(std::span<const float>(actual), std::span<const float>(expected));
    EXPECT_LE(error, kUnfusedTolerance) << what;
    worst[what] = std::max(worst[what], error);
    // Zeros would agree as well.
    EXPECT_TRUE(std::ranges::any_of(expected, [](float x) { return x != 0; })) << what;
  };

  for (const TokenId token : some_tokens(config, 3)) {
    for (const View* place : {&both.fused().buffers.token, &both.unfused().buffers.token}) {
      device.write(*place, std::as_bytes(std::span(&token, 1)));
    }
    Program embed;
    fused.embed(embed, f.token);
    unfused.embed(embed, both.unfused().buffers.token);
    device.wait(device.submit(embed.dispatches));

    for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
      SCOPED_TRACE("layer " + std::to_string(layer));
      Program stages;
      fused.encode_attention(stages, layer);
      fused.encode_ffn(stages, layer);
      Stepper stage(device, stages);
      Program operations;
      unfused.encode_attention(operations, layer);
      unfused.encode_ffn(operations, layer);
      Stepper operation(device, operations);

      // A
      ASSERT_TRUE(stage.run_until_written(f.projected));
      ASSERT_TRUE(operation.run_until_written(u.att_x, 4));
      compare("normalized", f.normalized, u.att_x);
      ASSERT_TRUE(operation.run_until_written(u.att_r));
      compare("r", f.projected.part(0, row), u.att_r);
      ASSERT_TRUE(operation.run_until_written(u.att_k));
      compare("k", f.projected.part(row, row), u.att_k);
      ASSERT_TRUE(operation.run_until_written(u.att_v));
      compare("v", f.projected.part(2 * row, row), u.att_v);
      std::uint64_t begin = 0;
      const auto low_rank = [&](std::uint32_t rank) {
        const View part = f.low_rank.part(begin, rank * sizeof(float));
        begin += part.size;
        return part;
      };
      const View low_w = low_rank(config.rank_w);
      const View low_a = low_rank(config.rank_a);
      const View low_v = low_rank(config.rank_v);
      const View low_g = low_rank(config.rank_g);
      ASSERT_TRUE(operation.run_until_written(u.aux_w));
      compare("tanh(w1)", low_w, u.aux_w);
      ASSERT_TRUE(operation.run_until_written(u.aux_a));
      compare("a1", low_a, u.aux_a);
      ASSERT_TRUE(operation.run_until_written(u.aux_g));
      compare("sigmoid(g1)", low_g, u.aux_g);
      if (layer > 0) {
        ASSERT_TRUE(operation.run_until_written(u.aux_v));
        compare("v1", low_v, u.aux_v);
      }

      // B: y of the recurrence, group norm, its weight and bias, bonus, gate
      ASSERT_TRUE(stage.run_until_written(f.gated));
      ASSERT_TRUE(operation.run_until_written(u.att_x, 6));
      compare("gated", f.gated, u.att_x);
      compare("S", both.fused().state.matrix[layer], both.unfused().state.matrix[layer]);
      compare("att_shift", both.fused().state.att_shift[layer],
              both.unfused().state.att_shift[layer]);
      compare("v_first", f.v_first, both.unfused().buffers.v_first);

      // C
      ASSERT_TRUE(stage.run_until_written(f.x));
      ASSERT_TRUE(operation.run_until_written(both.unfused().buffers.x));
      compare("x after attention", f.x, both.unfused().buffers.x);

      // D
      ASSERT_TRUE(stage.run_until_written(f.hidden));
      ASSERT_TRUE(operation.run_until_written(u.ffn_k));
      compare("hidden", f.hidden, u.ffn_k);

      // E
      stage.finish();
      operation.finish();
      compare("x after ffn", f.x, both.unfused().buffers.x);
      compare("ffn_shift", both.fused().state.ffn_shift[layer],
              both.unfused().state.ffn_shift[layer]);
    }
    Program heads;
    fused.head(heads);
    unfused.head(heads);
    device.wait(device.submit(heads.dispatches));
    compare("logits", f.logits, both.unfused().buffers.logits);
  }
  for (const auto& [what, error] : worst) RecordProperty(what, std::to_string(error));
}

INSTANTIATE_TEST_SUITE_P(Types, GpuUnfusedStages,
                         testing::Values(Models{DataType::F32, DataType::F32, 64},
                                         Models{DataType::Q8_0, DataType::F16, 64},
                                         Models{DataType::Q4_0, DataType::BF16, 64},
                                         Models{DataType::Q4_K, DataType::Q8_0, 256}),
                         [](const testing::TestParamInfo<Models>& parameters) {
                           return std::string(name(parameters.param.matrices));
                         });

// The backend on the unfused program against double precision.
TEST(GpuUnfused, AgreesWithTheReference) {
  const auto weights =
      std::make_shared<const Weights>(make_synthetic_weights(synthetic_config(), 5));
  const std::vector<TokenId> tokens = some_tokens(weights->config, 5);
  GpuBackend backend(weights, open_test_device(), {.unfused = true});
  ReferenceBackend reference(weights);
  const std::vector<float> logits = logits_of(backend, tokens);
  const std::vector<float> expected = logits_of(reference, tokens);
  EXPECT_LE(relative_error(std::span<const float>(logits), std::span<const float>(expected)),
            kTolerance);
  EXPECT_LE(relative_error(std::span<const float>(state_of(backend)),
                           std::span<const float>(state_of(reference))),
            kTolerance);
}

}  // namespace
}  // namespace gander::gpu
