#include "backend/gpu/measure/stages.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <initializer_list>
#include <map>
#include <utility>

#include "backend/gpu/prediction.h"

namespace gander::gpu {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;
constexpr std::uint32_t kWarmUpTokens = 8;  // generated before a stage is timed
constexpr std::uint32_t kTracedTokens = 64;
constexpr double kLeastSeconds = 0.01;     // of a submission of one stage's launches
constexpr std::size_t kMostLaunches = 50;  // of a stage's launches in it

constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kNames = {
    {{"embed", "embed"},
     {"time_mix_in", "A time mix in"},
     {"wkv", "B wkv"},
     {"time_mix_out", "C time mix out"},
     {"ffn_key", "D ffn key"},
     {"ffn_value", "E ffn value"},
     {"add_slices", "E add slices"},
     {"head", "head"},
     {"sample", "sample"}}};

std::string name_of(std::string_view kernel) {
  const auto named = std::ranges::find(kNames, kernel, &decltype(kNames)::value_type::first);
  return std::string(named == kNames.end() ? kernel : named->second);
}

// Multiplications and additions of W x.
double product(std::initializer_list<const Matrix*> matrices) {
  double operations = 0;
  for (const Matrix* matrix : matrices) {
    operations += 2.0 * matrix->rows * matrix->columns;
  }
  return operations;
}

// By kernel, of a token; norms, lerps and activations are left out, they are little.
std::map<std::string_view, double> operations_of(const Weights& weights, double active) {
  std::map<std::string_view, double> sums;
  const Config& config = weights.config;
  for (const gander::LayerWeights& layer : weights.layers) {
    const TimeMixWeights& a = layer.att;
    sums["time_mix_in"] += product({&a.receptance, &a.key, &a.value, &a.w1, &a.a1, &a.v1, &a.g1});
    // An element of S: 2 for S kk, 5 for the update, 2 for S r.
    sums["wkv"] += product({&a.w2, &a.a2, &a.v2, &a.g2}) + 9.0 * config.width * config.head_size;
    sums["time_mix_out"] += product({&a.output});
    sums["ffn_key"] += product({&layer.ffn.key});
    sums["ffn_value"] += product({&layer.ffn.value}) * active;
  }
  sums["head"] = product({&weights.head});
  return sums;
}

// Leaves activations as a text of the model does.
void generate(GpuBackend& backend) {
  backend.reset();
  Generator& generator = *backend.generator();
  std::vector<float> logits(backend.config().vocab_size);
  const TokenId first = 0;
  backend.forward({&first, 1}, Logits::Last, logits);
  start_fresh(generator, {.temperature = 0.0F}, backend.config().vocab_size);
  std::array<TokenId, kWarmUpTokens> tokens;
  generator.queue(kWarmUpTokens);
  generator.collect(tokens);
  generator.stop();
}

// Share of the hidden units that the last layer left different from zero.
double active_share(GpuBackend& backend) {
  const View& hidden = backend.memory().buffers.hidden;
  std::vector<float> values(hidden.size / sizeof(float));
  if (backend.persistent() != nullptr) {
    values = backend.persistent()->read_hidden();
  } else {
    backend.device().read(hidden, std::as_writable_bytes(std::span(values)));
  }
  const auto zeros = std::ranges::count(values, 0.0F);
  return 1 - static_cast<double>(zeros) / static_cast<double>(values.size());
}

double seconds_of(Device& device, std::span<const Dispatch> dispatches) {
  const Clock::time_point begin = Clock::now();
  device.wait(device.submit(dispatches));
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Of these dispatches once, which are launched often enough to hide what a submission costs.
double launch_seconds(Device& device, const std::vector<Dispatch>& dispatches) {
  const double once = seconds_of(device, dispatches);
  if (device.info().emulated) return once;
  const auto repeats = static_cast<std::size_t>(
      std::clamp(kLeastSeconds / once, 1.0, static_cast<double>(kMostLaunches)));
  std::vector<Dispatch> many;
  for (std::size_t i = 0; i < repeats; ++i) {
    many.insert(many.end(), dispatches.begin(), dispatches.end());
  }
  double least = seconds_of(device, many);
  for (int run = 0; run < kRuns; ++run) least = std::min(least, seconds_of(device, many));
  return least / static_cast<double>(repeats);
}

StageCosts measure_launches(GpuBackend& backend) {
  const auto& generator = dynamic_cast<const GpuGenerator&>(*backend.generator());
  std::vector<Dispatch> rest = generator.token_program().dispatches;
  StageCosts costs;
  while (!rest.empty()) {
    const std::string_view kernel = rest.front().kernel;
    std::vector<Dispatch> same, others;
    for (Dispatch& dispatch : rest) {
      (dispatch.kernel == kernel ? same : others).push_back(std::move(dispatch));
    }
    rest = std::move(others);
    generate(backend);
    StageCost cost = {.name = name_of(kernel), .launches = static_cast<std::uint32_t>(same.size())};
    const double active = active_share(backend);
    if (kernel == "ffn_value") costs.active = active;
    cost.seconds = launch_seconds(backend.device(), same);
    for (const Dispatch& dispatch : same) {
      cost.bytes += dispatch.bytes_read() + dispatch.bytes_written();
      cost.moved_bytes += moved_bytes(dispatch, active);
    }
    const auto operations = operations_of(backend.weights(), active);
    if (const auto found = operations.find(kernel); found != operations.end()) {
      cost.operations = found->second;
    }
    costs.stages.push_back(std::move(cost));
  }
  return costs;
}

std::uint64_t sum_of_bytes(std::initializer_list<const Placed*> parts) {
  std::uint64_t bytes = 0;
  for (const Placed* part : parts) bytes += part->bytes;
  return bytes;
}

// What A, B, C, D, E and the head of the token kernel read and write in all layers: weights and S.
std::array<std::uint64_t, 6> traced_bytes(const TokenWeights& weights, std::uint64_t state_bytes) {
  std::array<std::uint64_t, 6> bytes = {};
  for (const PlacedLayer& l : weights.layers) {
    bytes[0] +=
        sum_of_bytes({&l.ln1, &l.mix, &l.receptance, &l.key, &l.value, &l.w1, &l.a1, &l.v1, &l.g1});
    bytes[1] += sum_of_bytes({&l.vectors, &l.w2, &l.a2, &l.v2, &l.g2});
    bytes[2] += l.output.bytes;
    bytes[3] += sum_of_bytes({&l.ln2, &l.ffn_mix, &l.ffn_key});
    bytes[4] += l.ffn_value.bytes;
  }
  bytes[1] += 2 * state_bytes;
  bytes[5] = sum_of_bytes({&weights.ln_out, &weights.head});
  return bytes;
}

double moved_value_bytes(const TokenWeights& weights, double active) {
  double bytes = 0;
  for (const PlacedLayer& layer : weights.layers) {
    bytes += static_cast<double>(layer.ffn_value.bytes) *
             share_of_value_read(layer.ffn_value.type(), active);
  }
  return bytes;
}

StageCosts measure_trace(GpuBackend& backend) {
  constexpr std::array<std::string_view, 6> kKernels = {"time_mix_in", "wkv",       "time_mix_out",
                                                        "ffn_key",     "ffn_value", "head"};
  const auto& generator = dynamic_cast<const GpuGenerator&>(*backend.generator());
  Device& device = backend.device();
  const PersistentToken& persistent = *backend.persistent();
  Program program = persistent.record(backend.memory().buffers.token, true, true);
  // So that the next token is the one that the model goes on with.
  const Dispatch& last = generator.token_program().dispatches.back();
  if (last.kernel == "sample") program.dispatches.push_back(last);

  generate(backend);
  StageCosts costs;
  costs.active = active_share(backend);
  costs.traced = true;
  std::array<double, kKernels.size()> seconds = {};
  const std::uint32_t tokens = device.info().emulated ? 1 : kTracedTokens;
  for (std::uint32_t i = 0; i < tokens; ++i) {
    device.wait(device.submit(program.dispatches));
    const std::vector<std::uint64_t> times = persistent.read_trace();
    for (std::size_t k = 0; k < times.size(); ++k) {
      seconds[k + 1 == times.size() ? 5 : k % 5] += static_cast<double>(times[k]) * 1e-9 / tokens;
    }
  }
  const auto bytes = traced_bytes(persistent.weights(), backend.memory().state.slot(0).size);
  const auto operations = operations_of(backend.weights(), costs.active);
  for (std::size_t k = 0; k < kKernels.size(); ++k) {
    StageCost cost = {.name = name_of(kKernels[k]),
                      .launches = k == 5 ? 1 : backend.config().layers,
                      .seconds = seconds[k],
                      .bytes = bytes[k],
                      .moved_bytes = static_cast<double>(bytes[k]),
                      .operations = operations.at(kKernels[k])};
    if (kKernels[k] == "ffn_value") {
      cost.moved_bytes = moved_value_bytes(persistent.weights(), costs.active);
    }
    costs.stages.push_back(std::move(cost));
  }
  return costs;
}

}  // namespace

StageCosts measure_stages(GpuBackend& backend) {
  return backend.persistent() != nullptr ? measure_trace(backend) : measure_launches(backend);
}

}  // namespace gander::gpu
