#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>

#include "apps/gander-server/server.h"
#include "apps/gander/completion_script.h"
#include "apps/gander/help.h"
#include "apps/gander/options.h"
#include "apps/gander/terminal.h"
#include "base/error.h"
#include "model/state.h"

namespace gander::server {
namespace {

struct Options {
  ModelOptions model;
  HttpOptions http;
  ServiceOptions service;
  EngineOptions engine;
  std::string key_file;
  std::uint32_t slots = 64;
  std::uint32_t queue = 1024;
  std::uint64_t state_memory = 1024;  ///< MB
  std::uint64_t state_disk = 8192;    ///< MB
  std::string state_folder;
  std::uint32_t body_megabytes = 0;  ///< 0: for the model
  std::uint32_t outbox_kilobytes = 256;
  std::uint32_t drain_seconds = 30;
  std::uint32_t request_seconds = 600;
  std::string log_level = "info";
  std::string completion;  ///< the shell whose script is to be printed
};

void add_options(CLI::App& program, Options& options) {
  add_model_argument(program, options.model);
  add_model_options(program, options.model);
  const auto add = [&](const char* group, const char* name, auto& value, const char* what,
                       const char* type = "N") {
    return program.add_option(name, value, what)
        ->option_text(type)
        ->group(group)
        ->capture_default_str();
  };
  add("Network", "--host", options.http.host, "address to listen at", "ADDRESS");
  add("Network", "--port", options.http.port, "port; 0: one that is free");
  add("Network", "--api-key-file", options.key_file,
      "keys that may use the server, one a line; also $GANDER_API_KEYS", "FILE");
  add("Network", "--allow-origin", options.service.allowed_origin,
      "whose web pages may use the server too; *: all", "ORIGIN");
  add("Network", "--connections", options.http.connections, "at the most")
      ->check(CLI::Range(1U, 1U << 20));
  add("Network", "--max-body", options.body_megabytes,
      "largest request; default: 16, or what a state of the model takes", "MB")
      ->check(CLI::Range(1U, 4096U));
  add("Network", "--outbox", options.outbox_kilobytes,
      "text a slow reader may leave unread before it is cut off", "KB")
      ->check(CLI::Range(1U, 1U << 20));
  add("Network", "--drain-seconds", options.drain_seconds,
      "what is under way may take when the server is stopped");
  add("Requests", "--model-name", options.service.model_name,
      "what requests call the model; default: its file's name", "NAME");
  add("Requests", "--slots", options.slots, "texts generated at once, at the most")
      ->check(CLI::Range(1U, 1U << 16));
  add("Requests", "--queue", options.queue, "requests that may wait for a slot")
      ->check(CLI::Range(1U, 1U << 20));
  add("Requests", "--max-tokens", options.service.limits.max_tokens,
      "the most that a request may ask for");
  add("Requests", "--default-tokens", options.service.limits.default_max_tokens,
      "what one gets that does not ask");
  add("Requests", "--request-seconds", options.request_seconds, "the longest a request may take")
      ->check(CLI::Range(1U, 1U << 20));
  add("States", "--state-memory", options.state_memory,
      "states of texts kept in memory, so that they are not read again; 0: none", "MB");
  add("States", "--state-folder", options.state_folder,
      "keep them here too, from one start to the next", "FOLDER");
  add("States", "--state-disk", options.state_disk, "the folder's size, at the most", "MB");
  add("Options", "--log-level", options.log_level, "what is logged to stderr",
      "debug|info|warn|error|off")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}));
  add("Options", "--completion", options.completion, "print a completion script for a shell",
      kShells)
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

// Every connection is a file descriptor.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

CacheOptions cache_options(const Options& options) {
  CacheOptions cache;
  cache.memory_bytes = options.state_memory << 20;
  cache.folder = options.state_folder;
  cache.disk_bytes = options.state_disk << 20;
  cache.warn = [](const std::string& line) { spdlog::warn("{}", line); };
  return cache;
}

// What /v1/states gives it must take.
std::size_t largest_state(const Model& model) {
  constexpr std::size_t kTokens = std::size_t{1} << 20;
  return State::bytes(model.config()) + kTokens * sizeof(TokenId);
}

int serve(Options& options) {
  options.service.outbox_bytes = std::size_t{options.outbox_kilobytes} << 10;
  options.service.longest = std::chrono::seconds(options.request_seconds);
  options.service.keys = ApiKeys::load(options.key_file);
  options.service.is_local = is_loopback(options.http.host);
  options.engine.max_waiting = options.queue;

  const Model model = open_model(options.model);
  require_tokenizer(model);
  if (options.service.model_name.empty()) {
    options.service.model_name = std::filesystem::path(model.path).stem().string();
  }
  const std::uint32_t slots = slots_that_fit(model, options.slots);
  if (slots < options.slots) spdlog::warn("memory is enough for {} slots", slots);
  StateCache cache(model, cache_options(options));
  Engine engine(model, create_backend(model, options.model, slots), options.engine, &cache);
  if (options.body_megabytes > 0) {
    options.http.body_bytes = std::size_t{options.body_megabytes} << 20;
  } else {
    options.http.body_bytes = std::max(options.http.body_bytes, largest_state(model));
  }
  raise_descriptor_limit();
  const bool has_keys = !options.service.keys.empty();
  Server server(engine, &cache, options.http, options.service);
  if (!has_keys && !options.service.is_local) {
    spdlog::warn("anyone who reaches {} can use the server: give it --api-key-file",
                 options.http.host);
  }
  server.drain_on_signals(std::chrono::seconds(options.drain_seconds));
  const bool is_v6 = options.http.host.find(':') != std::string::npos;
  spdlog::info("{} on {}, {} slots", options.service.model_name, engine.backend_description(),
               engine.slots());
  spdlog::info("listening at http://{}{}{}:{}", is_v6 ? "[" : "", options.http.host,
               is_v6 ? "]" : "", server.port());
  server.run();
  cache.flush();
  spdlog::info("stopped");
  return 0;
}

int run_program(int argc, char** argv) {
  CLI::App program("Serves an RWKV-7 model over HTTP, with OpenAI's API and a web page.",
                   "gander-server");
  set_up(program);
  Options options;
  add_options(program, options);
  program.footer(
      "Then open http://127.0.0.1:8080, or point an OpenAI client at http://127.0.0.1:8080/v1.\n"
      "docs/server.md has the endpoints, and how to add TLS.\n\n"
      "Examples:\n"
      "  gander-server                                    the built-in model\n"
      "  gander-server model.gguf --slots 16 --state-folder ~/.cache/gander/states\n"
      "  gander-server model.gguf --host 0.0.0.0 --api-key-file keys.txt");
  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForVersion& version) {
    print(fmt::format("{}\n", version.what()));
    flush_output();
    return 0;
  } catch (const CLI::Success&) {
    print(program.help());
    flush_output();
    return 0;
  } catch (const CLI::ParseError& error) {
    fail("{}", explain(program, error));
  }
  if (!options.completion.empty()) {
    print(completion_script(program, options.completion));
    flush_output();
    return 0;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("gander-server"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  return serve(options);
}

}  // namespace
}  // namespace gander::server

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  std::string message;
  try {
    return gander::server::run_program(argc, argv);
  } catch (const std::bad_alloc&) {
    message = "out of memory: close other programs, or use a smaller model";
  } catch (const std::exception& error) {
    message = error.what();
  }
  gander::report("gander-server: " + gander::printable_line(message));
  return 1;
}
