#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "apps/gander/commands.h"
#include "apps/gander/http_stream.h"
#include "apps/gander/json.h"
#include "apps/gander/terminal.h"
#include "base/error.h"

namespace gander {
namespace {

using BenchClock = std::chrono::steady_clock;

struct BenchServeOptions {
  std::string url = "http://127.0.0.1:8080";
  double rate = 4;
  std::uint32_t conversations = 64;
  std::uint32_t turns = 2;
  std::uint32_t shared_words = 64;
  std::uint32_t words = 32;
  std::uint32_t tokens = 64;
  std::uint64_t seed = 1;
  bool json = false;
};

/// What came of all requests; in seconds.
struct ServeResults {
  std::vector<double> first_token, between, request;
  std::uint64_t requests = 0, failed = 0;
  std::uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double seconds = 0;
  std::string error;  ///< the first

  void add(const ServeResults& other) {
    first_token.insert(first_token.end(), other.first_token.begin(), other.first_token.end());
    between.insert(between.end(), other.between.begin(), other.between.end());
    request.insert(request.end(), other.request.begin(), other.request.end());
    requests += other.requests;
    failed += other.failed;
    prompt_tokens += other.prompt_tokens;
    cached_tokens += other.cached_tokens;
    generated_tokens += other.generated_tokens;
    if (error.empty()) error = other.error;
  }
};

double seconds_between(BenchClock::time_point from, BenchClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string random_words(std::uint32_t count, std::mt19937_64& random) {
  static constexpr const char* kWords[] = {"the",  "cat",    "little", "garden", "found", "happy",
                                           "went", "friend", "river",  "stone",  "one",   "day",
                                           "blue", "bird",   "house",  "played"};
  std::string text;
  for (std::uint32_t i = 0; i < count; ++i) {
    text.append(text.empty() ? "" : " ").append(kWords[random() % std::size(kWords)]);
  }
  return text;
}

/// A client: asks, waits for the reply, asks again with all that was said.
class BenchConversation {
 public:
  BenchConversation(const BenchServeOptions& options, const HttpAddress& address, std::string key,
                    std::uint32_t index)
      : options_(options),
        address_(address),
        key_(std::move(key)),
        random_(options.seed * 1000003 + index) {
    std::mt19937_64 shared(options.seed);
    if (options.shared_words > 0) {
      messages_.push_back(
          {{"role", "system"}, {"content", random_words(options.shared_words, shared)}});
    }
  }

  ServeResults run() {
    for (std::uint32_t turn = 0; turn < options_.turns && results_.failed == 0; ++turn) {
      ++results_.requests;
      try {
        take_turn();
      } catch (const std::exception& error) {
        ++results_.failed;
        results_.error = error.what();
      }
    }
    return results_;
  }

 private:
  void take_turn() {
    messages_.push_back({{"role", "user"}, {"content", random_words(options_.words, random_)}});
    const Json body = {{"messages", messages_},
                       {"max_tokens", options_.tokens},
                       {"seed", random_() % 100000},
                       {"logit_bias", {{"0", -100}}},  // every reply has its full length
                       {"stream", true},
                       {"stream_options", {{"include_usage", true}}}};
    const auto start = BenchClock::now();
    auto last = start;
    bool has_begun = false;
    std::string reply;
    std::string refusal;
    const unsigned status = post_for_events(
        address_, "/v1/chat/completions", json_text(body), key_,
        [&](std::string_view data) {
          if (data == "[DONE]") return;
          const Json chunk = Json::parse(data);
          if (chunk.contains("error")) {
            fail("{}", chunk["error"]["message"].get<std::string>());
          }
          if (chunk.contains("usage") && chunk["usage"].is_object()) add_usage(chunk["usage"]);
          if (chunk["choices"].empty()) return;
          const Json& delta = chunk["choices"][0]["delta"];
          if (!delta.contains("content") || !delta["content"].is_string() ||
              delta["content"].get_ref<const std::string&>().empty()) {
            return;
          }
          const auto now = BenchClock::now();
          (has_begun ? results_.between : results_.first_token)
              .push_back(seconds_between(last, now));
          has_begun = true;
          last = now;
          reply += delta["content"].get<std::string>();
        },
        refusal);
    if (status != 200) fail("status {}: {}", status, refusal.substr(0, 200));
    results_.request.push_back(seconds_between(start, BenchClock::now()));
    messages_.push_back({{"role", "assistant"}, {"content", reply}});
  }

  void add_usage(const Json& usage) {
    results_.prompt_tokens += usage["prompt_tokens"].get<std::uint64_t>();
    results_.generated_tokens += usage["completion_tokens"].get<std::uint64_t>();
    results_.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"].get<std::uint64_t>();
  }

  const BenchServeOptions& options_;
  const HttpAddress& address_;
  std::string key_;
  std::mt19937_64 random_;
  Json messages_ = Json::array();
  ServeResults results_;
};

// Open loop: conversations begin when their time has come, whatever became of those before.
ServeResults measure_server(const BenchServeOptions& options) {
  const HttpAddress address = parse_http_address(options.url);
  const char* const key = std::getenv("GANDER_API_KEY");
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> gap(options.rate);
  ServeResults results;
  std::mutex mutex;
  Progress progress("measuring", options.conversations);
  std::vector<std::thread> threads;
  const auto start = BenchClock::now();
  double due = 0;
  for (std::uint32_t i = 0; i < options.conversations; ++i) {
    progress.update(i);
    std::this_thread::sleep_until(start + std::chrono::duration_cast<BenchClock::duration>(
                                              std::chrono::duration<double>(due)));
    due += gap(random);
    threads.emplace_back([&, i] {
      const ServeResults own =
          BenchConversation(options, address, key != nullptr ? key : "", i).run();
      const std::lock_guard lock(mutex);
      results.add(own);
    });
  }
  for (std::thread& thread : threads) thread.join();
  results.seconds = seconds_between(start, BenchClock::now());
  return results;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto at = std::lround(share * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + at);
  return values[static_cast<std::size_t>(at)];
}

Json percentiles_json(const std::vector<double>& values) {
  return {{"count", values.size()},
          {"p50", percentile(values, 0.5)},
          {"p90", percentile(values, 0.9)},
          {"p99", percentile(values, 0.99)},
          {"max", percentile(values, 1)}};
}

void print_percentiles(std::string_view name, const std::vector<double>& values) {
  print(fmt::format("{:<22} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f}\n", name,
                    1e3 * percentile(values, 0.5), 1e3 * percentile(values, 0.9),
                    1e3 * percentile(values, 0.99), 1e3 * percentile(values, 1)));
}

int bench_serve(const BenchServeOptions& options) {
  const ServeResults results = measure_server(options);
  if (results.failed == results.requests) fail("no request succeeded: {}", results.error);
  const double tokens_per_second = static_cast<double>(results.generated_tokens) / results.seconds;
  if (options.json) {
    print(json_text({{"url", options.url},
                     {"rate", options.rate},
                     {"conversations", options.conversations},
                     {"turns", options.turns},
                     {"seconds", results.seconds},
                     {"requests", results.requests},
                     {"failed", results.failed},
                     {"prompt_tokens", results.prompt_tokens},
                     {"cached_tokens", results.cached_tokens},
                     {"generated_tokens", results.generated_tokens},
                     {"generated_tokens_per_second", tokens_per_second},
                     {"first_token_seconds", percentiles_json(results.first_token)},
                     {"between_tokens_seconds", percentiles_json(results.between)},
                     {"request_seconds", percentiles_json(results.request)}}) +
          "\n");
    return 0;
  }
  print(fmt::format("{}: {} conversations of {} turns, {} a second\n\n",
                    printable_line(options.url), options.conversations, options.turns,
                    options.rate));
  print(fmt::format("{:<22} {:>10} {:>10} {:>10} {:>10}\n", "ms", "p50", "p90", "p99", "max"));
  print_percentiles("first token", results.first_token);
  print_percentiles("between tokens", results.between);
  print_percentiles("request", results.request);
  print(fmt::format(
      "\n{} requests in {:.1f} s, {} failed; {:.0f} tokens/s generated; {} of {} prompt tokens "
      "from the cache\n",
      results.requests, results.seconds, results.failed, tokens_per_second, results.cached_tokens,
      results.prompt_tokens));
  if (results.failed > 0) print(fmt::format("first failure: {}\n", printable_line(results.error)));
  return 0;
}

}  // namespace

void add_bench_serve_command(CLI::App& bench, Action& action) {
  constexpr std::uint32_t kMostWords = 1U << 16;
  auto options = std::make_shared<BenchServeOptions>();
  CLI::App* command =
      bench.add_subcommand("serve", "Measure a server under load: throughput and waiting times");
  command->add_option("URL", options->url, "of the server; default: http://127.0.0.1:8080");
  command->add_option("--rate", options->rate, "conversations that begin in a second, on average")
      ->option_text("X")
      ->check(CLI::Range(0.001, 1e5))
      ->capture_default_str();
  add_count(*command, "--conversations", options->conversations, "that begin in all");
  add_count(*command, "--turns", options->turns, "of each, one after the other");
  command->add_option("--shared", options->shared_words, "words that all prompts begin with")
      ->option_text("N")
      ->check(CLI::Range(0U, kMostWords))
      ->capture_default_str();
  add_count(*command, "--words", options->words, "of each message", kMostWords);
  add_count(*command, "--tokens", options->tokens, "of each reply");
  command->add_option("--seed", options->seed, "same seed, same conversations")
      ->option_text("N")
      ->capture_default_str();
  command->add_flag("--json", options->json, "print one JSON object");
  command->footer(
      "Conversations begin at random times (Poisson), whatever became of those before; each waits\n"
      "for a reply before it goes on. Times are those of a client: of the first piece of text, "
      "and\n"
      "between two. $GANDER_API_KEY is sent when it is set.\n\n"
      "Examples:\n"
      "  gander bench serve --rate 8 --conversations 100\n"
      "  gander bench serve http://127.0.0.1:8080 --turns 4 --shared 500 --json");
  command->callback([&action, options] { action = [options] { return bench_serve(*options); }; });
}

}  // namespace gander
