#include "apps/gander-server/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace gander::server {
namespace {

std::string head(std::string_view name, std::string_view type, std::string_view help) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

template <typename Number>
std::string metric(std::string_view name, std::string_view type, std::string_view help,
                   Number value) {
  return head(name, type, help) + fmt::format("{} {}\n", name, value);
}

}  // namespace

void Histogram::add(double seconds) {
  const auto* const limit = std::lower_bound(kLimits.begin(), kLimits.end(), seconds);
  ++counts_[static_cast<std::size_t>(limit - kLimits.begin())];
  sum_ += seconds;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  std::string text = head(name, "histogram", help);
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    const std::string limit = i < kLimits.size() ? fmt::format("{}", kLimits[i]) : "+Inf";
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, limit, count);
  }
  return text + fmt::format("{0}_sum {1}\n{0}_count {2}\n", name, sum_, count);
}

void Metrics::add(const Usage& usage) {
  waiting.add(usage.waiting_seconds);
  if (usage.generated_tokens == 0) return;
  first_token.add(usage.waiting_seconds + usage.prompt_seconds);
  if (usage.generated_tokens > 1) between_tokens.add(usage.seconds / (usage.generated_tokens - 1));
}

std::string Metrics::text(const Engine& engine, const StateCache* cache,
                          std::size_t connections) const {
  const EngineStatistics engine_now = engine.statistics();
  std::string text =
      head("gander_http_responses_total", "counter", "Responses by route and status.");
  for (const auto& [key, count] : responses) {
    text += fmt::format("gander_http_responses_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                        key.second, count);
  }
  text += metric("gander_http_connections", "gauge", "Open connections.", connections);
  text += metric("gander_clients_gone_total", "counter",
                 "Clients that left before their response was over.", gone);
  text += metric("gander_clients_too_slow_total", "counter",
                 "Clients cut off because they read slower than text was generated.", too_slow);
  text +=
      metric("gander_slots", "gauge", "Sequences that can be generated at once.", engine_now.slots);
  text +=
      metric("gander_slots_running", "gauge", "Sequences that hold a slot.", engine_now.running);
  text += metric("gander_queue_requests", "gauge", "Requests that wait for a slot.",
                 engine_now.waiting);
  text += metric("gander_requests_total", "counter", "Requests accepted.", engine_now.requests);
  text += metric("gander_requests_refused_total", "counter",
                 "Requests refused because the queue was full.", engine_now.refused);
  text += metric("gander_steps_total", "counter", "Steps of the backend.", engine_now.steps);
  text += head("gander_tokens_total", "counter",
               "Tokens of prompts read, of prompts found in the cache, and generated.");
  text += fmt::format("gander_tokens_total{{kind=\"prompt\"}} {}\n", engine_now.prompt_tokens);
  text += fmt::format("gander_tokens_total{{kind=\"cached\"}} {}\n", engine_now.cached_tokens);
  text +=
      fmt::format("gander_tokens_total{{kind=\"generated\"}} {}\n", engine_now.generated_tokens);
  text += head("gander_texts_total", "counter", "Texts that ended, by what ended them.");
  for (std::size_t i = 0; i < std::size(engine_now.finished); ++i) {
    text += fmt::format("gander_texts_total{{reason=\"{}\"}} {}\n",
                        name(static_cast<FinishReason>(i)), engine_now.finished[i]);
  }
  if (cache != nullptr) {
    const CacheStatistics now = cache->statistics();
    text += metric("gander_cache_lookups_total", "counter", "Prompts looked up.", now.lookups);
    text += metric("gander_cache_hits_total", "counter", "Prompts whose beginning was found.",
                   now.hits);
    text += metric("gander_cache_disk_hits_total", "counter", "Of the hits, those read from disk.",
                   now.disk_hits);
    text += metric("gander_cache_tokens_saved_total", "counter",
                   "Tokens that the states found had read.", now.tokens_saved);
    text += metric("gander_cache_memory_bytes", "gauge", "States in memory.", now.memory_bytes);
    text += metric("gander_cache_disk_bytes", "gauge", "States on disk.", now.disk_bytes);
    text += metric("gander_cache_corrupt_total", "counter", "Damaged files that were removed.",
                   now.corrupt);
  }
  text += waiting.text("gander_queue_seconds", "From a request to its slot.");
  text += first_token.text("gander_first_token_seconds", "From a request to its first token.");
  text += between_tokens.text("gander_between_tokens_seconds",
                              "Between two tokens, the mean of each text.");
  return text;
}

}  // namespace gander::server
