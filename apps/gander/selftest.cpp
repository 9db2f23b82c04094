#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "backend/self_test.h"
#include "base/error.h"

namespace gander {
namespace {

struct SelftestOptions {
  ModelOptions model;
  bool json = false;
};

int selftest(const SelftestOptions& options) {
  const Model model = open_model(options.model);
  std::string backend_name;
  ModelOptions model_options = options.model;
  model_options.skip_self_test = true;  // this is it
  const SelfTest result = self_test(*model.weights, [&](std::shared_ptr<const Weights> weights) {
    Model part = model;
    part.weights = std::move(weights);
    std::unique_ptr<Backend> backend = create_backend(part, model_options);
    backend_name = backend->description();
    return backend;
  });
  if (options.json) {
    const Json json = {{"model", model.path},
                       {"backend", backend_name},
                       {"passed", result.passed()},
                       {"logits_error", result.logits_error},
                       {"state_error", result.state_error},
                       {"tolerance", result.tolerance},
                       {"reads_at_once", result.reads_at_once},
                       {"prompt_error", result.prompt_error},
                       {"prompt_tolerance", result.prompt_tolerance},
                       {"layers", result.layers},
                       {"generates", result.generates},
                       {"takes_likeliest", result.takes_likeliest},
                       {"seconds", result.seconds}};
    print(json_text(json) + "\n");
  } else {
    print(fmt::format("{} on {}\n", printable_line(model.path), backend_name));
    print(fmt::format("layers {}, against double precision: {}\n", fmt::join(result.layers, ", "),
                      result.verdict()));
    if (result.generates && result.takes_likeliest) {
      print("what it generates greedily are the largest logits\n");
    }
    if (result.reads_at_once && result.passed()) {
      print(fmt::format(
          "prompts read at once are off by {:.1e} from token by token, {:.0e} is allowed\n",
          result.prompt_error, result.prompt_tolerance));
    }
    print(fmt::format("{:.1f} s\n", result.seconds));
  }
  if (!result.passed()) {
    flush_output();
    fail("the self-test of {} failed: use --backend cpu, and please report the lines above",
         backend_name);
  }
  return 0;
}

}  // namespace

void add_selftest_command(CLI::App& program, Action& action) {
  auto options = std::make_shared<SelftestOptions>();
  CLI::App* command =
      program.add_subcommand("selftest", "Check a backend against double precision");
  add_model_argument(*command, options->model);
  command->add_flag("--json", options->json, "print one JSON object");
  add_model_options(*command, options->model);
  command->footer(
      "Runs a few tokens through the first two layers of the model, and those in which matrices "
      "have\n"
      "other types, its embedding and its head on the backend and in double precision, and "
      "compares\n"
      "logits and state; a GPU also generates two tokens. Every use of a GPU begins with this.\n\n"
      "Examples:\n"
      "  gander selftest\n"
      "  gander selftest model.gguf --backend metal");
  command->callback([&action, options] { action = [options] { return selftest(*options); }; });
}

}  // namespace gander
