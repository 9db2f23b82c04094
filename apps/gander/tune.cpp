#include <fmt/format.h>

#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/interrupt.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "backend/gpu/open_device.h"
#include "backend/gpu/tuning.h"
#include "base/error.h"

namespace gander {
namespace {

struct TuneOptions {
  ModelOptions model;
  bool dry_run = false;
  bool json = false;
};

Json tuned_json(const Model& model, const std::string& device, const gpu::Tuned& tuned,
                const std::string& path) {
  Json stages = Json::array();
  for (const gpu::TunedStage& stage : tuned.stages) {
    stages.push_back({{"stage", stage.name},
                      {"before", stage.before},
                      {"after", stage.after},
                      {"seconds_before", stage.seconds_before},
                      {"seconds_after", stage.seconds_after}});
  }
  return {{"model", model.path},
          {"device", device},
          {"file", path.empty() ? Json(nullptr) : Json(path)},
          {"stages", stages}};
}

void print_tuned(const std::string& device, const gpu::Tuned& tuned) {
  print(fmt::format("{}, all layers of a token, in microseconds\n\n", device));
  print(fmt::format("  {:<13} {:>9} {:>9}   {}\n", "stage", "default", "fastest", "shape"));
  double before = 0;
  double after = 0;
  for (const gpu::TunedStage& stage : tuned.stages) {
    before += stage.seconds_before;
    after += stage.seconds_after;
    print(fmt::format("  {:<13} {:>9.1f} {:>9.1f}   {}{}\n", stage.name, 1e6 * stage.seconds_before,
                      1e6 * stage.seconds_after, stage.after,
                      stage.after == stage.before ? " (the default)" : ""));
  }
  print(fmt::format("  {:<13} {:>9.1f} {:>9.1f}\n", "sum", 1e6 * before, 1e6 * after));
}

int run_tune(const TuneOptions& options) {
  const Model model = open_model(options.model);
  const std::unique_ptr<gpu::Device> device =
      open_device(options.model.backend, backend_options(options.model));
  std::optional<gpu::Tuned> tuned;
  {
    constexpr std::uint64_t kSteps = 1000;
    Progress progress("measuring", kSteps);
    const InterruptGuard guard(InterruptGuard::Second::Ends);
    tuned = gpu::tune(*model.weights, *device, [&](double done) {
      progress.update(static_cast<std::uint64_t>(done * kSteps));
      return !guard.requested();
    });
  }
  if (!tuned) return kInterruptedExit;
  const std::string path = options.dry_run ? "" : gpu::tuning_path();
  if (!options.dry_run) gpu::store_shapes(path, device->info(), *model.weights, tuned->shapes);
  if (options.json) {
    print(json_text(tuned_json(model, device->info().name, *tuned, path)) + "\n");
    return 0;
  }
  print_tuned(device->info().name, *tuned);
  if (!options.dry_run) print(fmt::format("\nkept in {}\n", printable_line(path)));
  return 0;
}

}  // namespace

void add_tune_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<TuneOptions>();
  CLI::App* command =
      program.add_subcommand("tune", "Measure the fastest launch shapes of a GPU for a model");
  add_model_argument(*command, options->model);
  command->add_flag("--dry-run", options->dry_run, "measure and print, but keep nothing");
  command->add_flag("--json", options->json, "print one JSON object");
  add_model_options(*command, options->model);
  command->footer(
      "Times every stage of a token in different thread-group shapes and keeps the fastest for "
      "this\n"
      "GPU and for models of the same widths and types. Results may differ in their last bits "
      "from\n"
      "those with other shapes.\n\n"
      "Examples:\n"
      "  gander tune model.gguf\n"
      "  gander tune model.gguf --backend metal --dry-run --json");
  command->callback([&action, options] { action = [options] { return run_tune(*options); }; });
}

}  // namespace gander
