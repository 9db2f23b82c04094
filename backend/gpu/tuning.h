#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/launch_shapes.h"
#include "model/weights.h"

// Which launch shapes are fastest depends on the chip and on the model's widths and types, so they
// are measured where they are used: `gander tune`.
namespace gander::gpu {

/// A stage's time over all layers of a token, in the default shape and in the fastest one.
struct TunedStage {
  std::string name;
  std::string before, after;  ///< for people: "256 threads, 32 rows"
  double seconds_before = 0, seconds_after = 0;
};

struct Tuned {
  LaunchShapes shapes;
  std::vector<TunedStage> stages;
};

/// Measures every stage of the model's token program in every sensible shape. `progress` gets the
/// share done and returns false to cancel: then nothing is returned. Throws Error when the device
/// fails or cannot hold the model.
std::optional<Tuned> tune(const Weights& weights, Device& device,
                          const std::function<bool(double done)>& progress);

/// Where shapes are kept: $GANDER_TUNING, else gander/tuning.json in $XDG_CONFIG_HOME or ~/.config;
/// empty when there is no home folder.
std::string tuning_path();

/// The shapes stored for this device and a model of these widths and types; nothing when none are.
/// Throws Error, naming the file and the field, when the file is malformed.
std::optional<LaunchShapes> stored_shapes(const std::string& path, const DeviceInfo& info,
                                          const Weights& weights);
/// Adds to the file, or replaces what it has for this device and model. Throws Error.
void store_shapes(const std::string& path, const DeviceInfo& info, const Weights& weights,
                  const LaunchShapes& shapes);

}  // namespace gander::gpu
