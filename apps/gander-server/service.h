#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apps/gander-server/api/api_keys.h"
#include "apps/gander-server/api/openai_request.h"
#include "apps/gander-server/generation.h"
#include "apps/gander-server/http/http_server.h"
#include "apps/gander-server/metrics.h"
#include "engine/cache/state_cache.h"
#include "engine/grammar/grammar.h"
#include "engine/serving/engine.h"

namespace gander::server {

struct ServiceOptions {
  std::string model_name;  ///< what /v1/models lists and requests may name
  RequestLimits limits = {};
  ApiKeys keys = {};
  std::string allowed_origin = {};                    ///< whose pages may use the server too
  std::size_t outbox_bytes = std::size_t{256} << 10;  ///< of a text, that the client has not read
  std::chrono::seconds longest = std::chrono::seconds{600};  ///< a request, from its arrival
  bool is_local = true;  ///< listens where only this machine can connect
};

/// What the server answers: OpenAI's API on an engine, states, health, metrics, and the page.
/// Used by the thread that serves HTTP; what takes long goes to threads of its own.
class Service {
 public:
  /// `cache` may be null. Both must outlive the service.
  Service(Engine& engine, StateCache* cache, ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// Whether the sender may use the server at all; handle() refuses others by the head alone.
  bool admits(const HttpRequest& head) const;
  /// Answers a request, and writes a line about it to the log.
  asio::awaitable<void> handle(Exchange& exchange);

  /// From now on /ready says 503, and nothing new is generated.
  void drain() { is_draining_ = true; }
  /// For /metrics.
  std::function<std::size_t()> connections = [] { return std::size_t{0}; };

 private:
  asio::awaitable<void> route(Exchange& exchange, std::string& route);
  void check_origin(const HttpRequest& request) const;
  std::string authorize(const HttpRequest& request) const;
  HttpResponse models(const std::string& name) const;

  // completions.cpp
  asio::awaitable<void> generate(Exchange& exchange, Endpoint endpoint, const std::string& client);
  asio::awaitable<void> answer(Exchange& exchange, Generation& generation);
  // On a worker:
  void start_chat(Generation& generation, const std::string& body, const std::string& client);
  void start_completion(Generation& generation, const std::string& body, const std::string& client);
  void begin(Generation& generation, const GenerationFields& fields,
             const std::string& client) const;
  Request request_of(const Generation& generation) const;
  std::unique_ptr<TokenMask> mask_of(const Json& schema, const char* field);
  void submit(Generation& generation, std::vector<Request> requests);

  // states.cpp
  asio::awaitable<void> states(Exchange& exchange, const std::string& client);
  HttpResponse change_state(const HttpRequest& request, const std::string& client);

  /// Runs `work` on a thread where it may take its time. What it throws is thrown here.
  asio::awaitable<void> on_worker(std::function<void()> work);

  Engine& engine_;
  StateCache* cache_;
  ServiceOptions options_;
  GrammarCache grammars_;
  Metrics metrics_;
  std::atomic<bool> is_draining_ = false;
  std::int64_t created_;  // when the server started, which /v1/models tells
  asio::thread_pool workers_;
};

/// The name under which the engine keeps a client's state: other clients cannot name it.
std::string state_name(const std::string& client, const std::string& name);

}  // namespace gander::server
