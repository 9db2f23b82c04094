// Whole models on the Metal backend over the stand-in, which ends the program on misuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/metal/open_metal.h"
#include "backend/reference/reference_backend.h"
#include "tests/metal_standin/standin.h"
#include "tests/support/backend_check.h"
#include "tests/support/synthetic_model.h"

namespace gander::gpu {
namespace {

struct Variant {
  const char* name;
  int macos_version;
  SyncMode sync;
  bool unfused;
};

class MetalBackend : public testing::TestWithParam<Variant> {
 protected:
  MetalBackend() {
    standin::reset();
    standin::settings().macos_version = GetParam().macos_version;
  }
  ~MetalBackend() override {
    EXPECT_EQ(standin::leaks(), "");
    standin::reset();
  }

  static std::unique_ptr<GpuBackend> open(const std::shared_ptr<const Weights>& weights) {
    const MetalOptions options = {.device = "", .cache_folder = "", .capture_path = ""};
    GpuOptions gpu_options;
    gpu_options.sync = GetParam().sync;
    gpu_options.unfused = GetParam().unfused;
    return std::make_unique<GpuBackend>(weights, open_metal_device(options), gpu_options);
  }
};

TEST_P(MetalBackend, AgreesWithTheReference) {
  const auto weights = std::make_shared<const Weights>(make_synthetic_weights(odd_config(), 1));
  const std::vector<TokenId> text = some_tokens(weights->config, 6);
  const auto backend = open(weights);
  ReferenceBackend reference(weights);
  const double logits =
      relative_error<float, float>(logits_of(*backend, text), logits_of(reference, text));
  EXPECT_LT(logits, kTolerance);
  const double state = relative_error<float, float>(state_of(*backend), state_of(reference));
  EXPECT_LT(state, kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Variants, MetalBackend,
                         testing::Values(Variant{"Fused", 15, SyncMode::Async, false},
                                         Variant{"FusedOnMacOs14", 14, SyncMode::Async, false},
                                         Variant{"FusedOpByOp", 15, SyncMode::Op, false},
                                         Variant{"Unfused", 15, SyncMode::Async, true},
                                         Variant{"UnfusedLayerByLayer", 14, SyncMode::Layer, true}),
                         [](const auto& variant) { return std::string(variant.param.name); });

}  // namespace
}  // namespace gander::gpu
