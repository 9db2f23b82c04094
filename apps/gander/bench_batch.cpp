#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "apps/gander/bench_tokens.h"
#include "apps/gander/commands.h"
#include "apps/gander/json.h"
#include "apps/gander/svg_file.h"
#include "apps/gander/terminal.h"
#include "base/median.h"

namespace gander {
namespace {

struct BenchBatchOptions {
  ModelOptions model;
  std::uint32_t sequences = 32;
  std::uint32_t prefill = 512;
  std::uint32_t steps = 8;
  std::string svg;  ///< a file for the plot; empty: none
  bool json = false;
};

/// Steps of one shape: `sequences` that read a token each, and one that reads `prefill` tokens.
struct BatchTimes {
  std::uint32_t sequences = 0, prefill = 0;
  std::vector<double> seconds = {};  ///< of a step

  double least() const { return *std::ranges::min_element(seconds); }
  double most() const { return *std::ranges::max_element(seconds); }
  double median() const { return gander::median(seconds); }
  double speed() const { return (sequences + prefill) / median(); }
};

// Powers of two from `first` on, and `last`.
std::vector<std::uint32_t> sizes_up_to(std::uint32_t first, std::uint32_t last) {
  std::vector<std::uint32_t> sizes;
  for (std::uint32_t size = first; size < last; size *= 2) sizes.push_back(size);
  sizes.push_back(last);
  return sizes;
}

/// A backend of a slot for each sequence that generates, and one more for a prompt.
class BatchBench {
 public:
  BatchBench(const Model& model, const BenchBatchOptions& options)
      : options_(options),
        text_(bench_tokens(model, std::max(options.prefill, options.sequences + kContext))),
        backend_(create_backend(model, options.model, options.sequences + 1)),
        best_(options.sequences + 1) {}

  std::string description() const { return backend_->description(); }

  /// Steps of the shape, of which the first two do not count.
  void measure(BatchTimes& times) {
    begin(times.sequences);
    constexpr std::uint32_t kWarmUp = 2;
    for (std::uint32_t i = 0; i < kWarmUp + options_.steps; ++i) {
      // A token each, the last step's likeliest; then the prompt from its beginning.
      next_ = best_;
      std::vector<SequenceStep> steps;
      for (std::uint32_t slot = 0; slot < times.sequences; ++slot) {
        steps.push_back({slot, {&next_[slot], 1}});
      }
      if (times.prefill > 0) {
        backend_->reset(options_.sequences);
        steps.push_back({options_.sequences, std::span(text_).first(times.prefill)});
      }
      const auto before = std::chrono::steady_clock::now();
      backend_->step(steps, {}, best_);
      const auto after = std::chrono::steady_clock::now();
      if (i >= kWarmUp) {
        times.seconds.push_back(std::chrono::duration<double>(after - before).count());
      }
    }
  }

 private:
  static constexpr std::uint32_t kContext = 16;

  // Every sequence has read another piece of the text.
  void begin(std::uint32_t sequences) {
    std::vector<SequenceStep> steps;
    for (std::uint32_t slot = 0; slot < sequences; ++slot) {
      backend_->reset(slot);
      steps.push_back({slot, std::span(text_).subspan(slot, kContext)});
    }
    if (!steps.empty()) backend_->step(steps, {}, best_);
  }

  const BenchBatchOptions& options_;
  std::vector<TokenId> text_;
  std::unique_ptr<Backend> backend_;
  std::vector<TokenId> best_, next_;  // by slot, as decoding sequences come first
};

struct BatchResults {
  std::vector<BatchTimes> decode, prefill;
  BatchTimes mixed;
};

BatchResults measure_batches(BatchBench& bench, const BenchBatchOptions& options) {
  BatchResults results;
  for (const std::uint32_t size : sizes_up_to(1, options.sequences)) {
    results.decode.push_back({.sequences = size});
  }
  for (const std::uint32_t size : sizes_up_to(16, options.prefill)) {
    results.prefill.push_back({.prefill = size});
  }
  results.mixed = {options.sequences, options.prefill};
  const std::size_t shapes = results.decode.size() + results.prefill.size() + 1;
  Progress progress("measuring", shapes);
  std::uint64_t done = 0;
  const auto measure = [&](BatchTimes& times) {
    progress.update(done++);
    bench.measure(times);
  };
  std::ranges::for_each(results.decode, measure);
  std::ranges::for_each(results.prefill, measure);
  measure(results.mixed);
  return results;
}

Json batch_times_json(const BatchTimes& times) {
  Json json = Json::object();
  if (times.sequences > 0) json["sequences"] = times.sequences;
  if (times.prefill > 0) json["prefill"] = times.prefill;
  json["seconds"] = {{"median", times.median()}, {"min", times.least()}, {"max", times.most()}};
  json["tokens_per_second"] = times.speed();
  return json;
}

// Sequences × tokens.
std::string shape_name(const BatchTimes& times) {
  if (times.prefill == 0) return fmt::format("{} × 1", times.sequences);
  if (times.sequences == 0) return fmt::format("1 × {}", times.prefill);
  return fmt::format("{} × 1 + {}", times.sequences, times.prefill);
}

BarChart batch_chart(const Model& model, const std::string& backend, const BatchResults& results) {
  BarChart chart;
  chart.title = "Steps of many sequences, and of prompts";
  chart.subtitle = chart_subtitle(model, backend);
  chart.axis = "tokens a second";
  const auto add = [&](std::string_view name, const BatchTimes& times, bool begins_group) {
    chart.bars.push_back(
        {.label = fmt::format("{} {}", name, shape_name(times)),
         .value = times.speed(),
         .note = fmt::format("{:.0f} tok/s, {:.4g} ms a step", times.speed(), 1e3 * times.median()),
         .begins_group = begins_group});
  };
  for (const BatchTimes& times : results.decode) add("decode", times, false);
  for (const BatchTimes& times : results.prefill) {
    add("prefill", times, &times == &results.prefill.front());
  }
  add("mixed", results.mixed, true);
  return chart;
}

void print_batch_times(std::string_view name, const BatchTimes& times, const std::string& against) {
  print(fmt::format("{:<8} {:>12} {:>11.3f} {:>11.3f} {:>11.3f} {:>11.1f} {:>9}\n", name,
                    shape_name(times), 1e3 * times.median(), 1e3 * times.least(),
                    1e3 * times.most(), times.speed(), against));
}

int bench_batch(const BenchBatchOptions& options) {
  SvgFile svg(options.svg);
  const Model model = open_model(options.model);
  BatchBench bench(model, options);
  const BatchResults results = measure_batches(bench, options);
  svg.write(batch_chart(model, bench.description(), results));
  if (options.json) {
    Json decode = Json::array();
    Json prefill = Json::array();
    for (const BatchTimes& times : results.decode) decode.push_back(batch_times_json(times));
    for (const BatchTimes& times : results.prefill) prefill.push_back(batch_times_json(times));
    print(json_text({{"model", model.path},
                     {"backend", bench.description()},
                     {"steps", options.steps},
                     {"decode", decode},
                     {"prefill", prefill},
                     {"mixed", batch_times_json(results.mixed)}}) +
          "\n");
    return 0;
  }
  print(fmt::format("{} on {}, {} steps of each shape (sequences × tokens)\n\n",
                    printable_line(model.path), bench.description(), options.steps));
  print(fmt::format("{:<8} {:>12} {:>11} {:>11} {:>11} {:>11} {:>9}\n", "", "shape", "ms a step",
                    "min", "max", "tok/s", "to 1 × 1"));
  const double one = results.decode.front().speed();
  const auto against = [one](const BatchTimes& times) {
    return fmt::format("{:.2f}", times.speed() / one);
  };
  for (const BatchTimes& times : results.decode) {
    print_batch_times("decode", times, against(times));
  }
  for (const BatchTimes& times : results.prefill) {
    print_batch_times("prefill", times, against(times));
  }
  print_batch_times("mixed", results.mixed, against(results.mixed));
  return 0;
}

}  // namespace

void add_bench_batch_command(CLI::App& bench, Action& action) {
  constexpr std::uint32_t kMostCount = 1U << 16;
  auto options = std::make_shared<BenchBatchOptions>();
  CLI::App* command =
      bench.add_subcommand("batch", "Measure steps of many sequences, and of long prompts");
  add_model_argument(*command, options->model);
  add_count(*command, "--sequences", options->sequences,
            "sequences that generate together, at the most");
  add_count(*command, "--prefill", options->prefill, "tokens of a prompt, at the most", kMostCount);
  add_count(*command, "--steps", options->steps,
            "steps of each shape that count, after two that do not");
  command->add_flag("--json", options->json, "print one JSON object");
  command->add_option("--svg", options->svg, "draw it too")->option_text("FILE");
  add_model_options(*command, options->model);
  command->footer(
      "Shapes: 1, 2, 4, ... sequences that read a token each; prompts of 16, 32, ... tokens; and\n"
      "all those sequences beside the longest prompt in one step. Each step ends with the "
      "likeliest\n"
      "token of every sequence, which it reads next. Medians over the steps.\n\n"
      "Examples:\n"
      "  gander bench batch model.gguf --backend cpu --sequences 8\n"
      "  gander bench batch --prefill 4096 --json");
  command->callback([&action, options] { action = [options] { return bench_batch(*options); }; });
}

}  // namespace gander
