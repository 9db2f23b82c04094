#include "apps/gander-server/service.h"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "apps/gander-server/api/api_error.h"
#include "apps/gander-server/page_files.h"

namespace gander::server {
namespace {

constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
    "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

HttpResponse page_response(const PageFile& file) {
  HttpResponse response;
  response.content_type = file.content_type;
  response.body = file.bytes;
  response.headers = {{"Content-Security-Policy", std::string(kPagePolicy)},
                      {"Cache-Control", "no-cache"},
                      {"Referrer-Policy", "no-referrer"}};
  return response;
}

void require_method(const HttpRequest& request, std::string_view method) {
  if (request.method == method || (method == "GET" && request.method == "HEAD")) return;
  throw ApiError(405, fmt::format("{} takes {}, not {}", request.path, method, request.method));
}

// The present exception as one a client is told of.
ApiError api_error_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const ApiError& error) {
    return error;
  } catch (const Refused& error) {
    return ApiError(503, error.what(), "", "queue_full");
  } catch (const StatesFull& error) {
    return ApiError(507, error.what(), "", "states_full");
  } catch (const Error& error) {
    return ApiError(400, error.what());
  } catch (const std::bad_alloc&) {
    return ApiError(503, "out of memory");
  } catch (const std::exception& error) {
    spdlog::error("internal error: {}", error.what());
    return ApiError(500, "internal error");
  }
}

}  // namespace

Service::Service(Engine& engine, StateCache* cache, ServiceOptions options)
    : engine_(engine),
      cache_(cache),
      options_(std::move(options)),
      grammars_(engine.model().tokenizer),
      created_(std::chrono::duration_cast<std::chrono::seconds>(
                   std::chrono::system_clock::now().time_since_epoch())
                   .count()),
      workers_(2) {
  options_.limits.vocab_size = engine.model().config().vocab_size;
}

Service::~Service() {
  workers_.join();
}

asio::awaitable<void> Service::on_worker(std::function<void()> work) {
  // A parameter, not a capture: it must live as long as the coroutine.
  const auto run = [](std::function<void()> job) -> asio::awaitable<void> {
    job();
    co_return;
  };
  co_await asio::co_spawn(workers_, run(std::move(work)), asio::use_awaitable);
}

asio::awaitable<void> Service::handle(Exchange& exchange) {
  const auto start = std::chrono::steady_clock::now();
  const HttpRequest& request = exchange.request();
  std::string route_name = "other";
  std::exception_ptr failure;
  std::exception_ptr gone;
  exchange.headers = {{"X-Content-Type-Options", "nosniff"}};
  if (!options_.allowed_origin.empty()) {
    exchange.headers.emplace_back("Access-Control-Allow-Origin", options_.allowed_origin);
    exchange.headers.emplace_back("Vary", "Origin");
  }
  try {
    co_await route(exchange, route_name);
  } catch (const boost::system::system_error&) {
    gone = std::current_exception();
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure) {
    try {
      const ApiError error = api_error_of(failure);
      if (exchange.status() == 0) {
        HttpResponse response = error_response(error);
        if (error.status() == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
        co_await exchange.respond(std::move(response));
      } else {  // the stream has begun
        co_await exchange.write_events("data: " + error_json(error) + "\n\n");
        co_await exchange.end_events();
      }
    } catch (const boost::system::system_error&) {
      gone = std::current_exception();
    }
  }
  // 499: as nginx calls it when the client has closed the connection.
  const unsigned status = gone ? 499 : exchange.status();
  if (gone) ++metrics_.gone;
  ++metrics_.responses[{route_name, status}];
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  spdlog::info("{} {} {} {} {:.3f}s {}B{}{}", request.client, request.method, route_name, status,
               seconds.count(), exchange.bytes_sent(), exchange.note.empty() ? "" : " ",
               exchange.note);
  if (gone) std::rethrow_exception(gone);
}

std::string Service::authorize(const HttpRequest& request) const {
  std::optional<std::string> client = options_.keys.identify(request.authorization);
  if (client) return *std::move(client);
  throw ApiError(401,
                 request.authorization.empty()
                     ? "an API key is needed: send it as \"Authorization: Bearer KEY\""
                     : "this API key is not known",
                 "", "invalid_api_key");
}

bool Service::admits(const HttpRequest& head) const {
  try {
    check_origin(head);
    authorize(head);
  } catch (const ApiError&) {
    return false;
  }
  return true;
}

void Service::check_origin(const HttpRequest& request) const {
  if (!origin_is_allowed(request.origin, request.host, options_.allowed_origin)) {
    throw ApiError(403, "pages of other origins may not use this server (see --allow-origin)");
  }
  if (options_.is_local && options_.keys.empty() && !is_numeric_host(request.host)) {
    throw ApiError(403,
                   "without API keys the server must be addressed as localhost or by its address");
  }
}

asio::awaitable<void> Service::route(Exchange& exchange, std::string& route) {
  const HttpRequest& request = exchange.request();
  const std::string& path = request.path;
  check_origin(request);
  if (const PageFile* const file = find_page_file(path)) {
    route = path;
    require_method(request, "GET");
    co_return co_await exchange.respond(page_response(*file));
  }
  if (path == "/health" || path == "/ready") {
    route = path;
    require_method(request, "GET");
    const bool is_ready = path == "/health" || !is_draining_;
    HttpResponse response;
    response.status = is_ready ? 200 : 503;
    response.body = is_ready ? "{\"status\":\"ok\"}\n" : "{\"status\":\"draining\"}\n";
    co_return co_await exchange.respond(std::move(response));
  }
  if (request.method == "OPTIONS" && !request.origin.empty()) {
    route = "preflight";
    HttpResponse response;
    response.status = 204;
    response.headers = {{"Access-Control-Allow-Methods", "GET, POST, PUT, DELETE"},
                        {"Access-Control-Allow-Headers", "authorization, content-type, *"},
                        {"Access-Control-Max-Age", "600"}};
    co_return co_await exchange.respond(std::move(response));
  }

  const std::string client = authorize(request);
  if (path == "/v1/chat/completions") {
    route = path;
    require_method(request, "POST");
    co_await generate(exchange, Endpoint::Chat, client);
  } else if (path == "/v1/completions") {
    route = path;
    require_method(request, "POST");
    co_await generate(exchange, Endpoint::Completions, client);
  } else if (path == "/v1/models" || path.starts_with("/v1/models/")) {
    route = "/v1/models";
    require_method(request, "GET");
    co_await exchange.respond(models(path.substr(std::min(path.size(), std::size_t{11}))));
  } else if (path == "/v1/states" || path.starts_with("/v1/states/")) {
    route = "/v1/states";
    co_await states(exchange, client);
  } else if (path == "/metrics") {
    route = path;
    require_method(request, "GET");
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = metrics_.text(engine_, cache_, connections());
    co_await exchange.respond(std::move(response));
  } else if (path == "/v1/embeddings") {
    route = path;
    throw ApiError(501,
                   "embeddings are not supported: the state of a model trained to write text is "
                   "no measure of likeness",
                   "", "unsupported");
  } else {
    throw ApiError(404, fmt::format("there is no {}", path.substr(0, 100)), "", "unknown_url");
  }
}

HttpResponse Service::models(const std::string& name) const {
  const Json model = {{"id", options_.model_name},
                      {"object", "model"},
                      {"created", created_},
                      {"owned_by", "gander"}};
  HttpResponse response;
  if (name.empty()) {
    response.body = json_text({{"object", "list"}, {"data", Json::array({model})}}) + "\n";
  } else if (name == options_.model_name) {
    response.body = json_text(model) + "\n";
  } else {
    throw ApiError(404, fmt::format("there is no model \"{}\"", name.substr(0, 100)), "model",
                   "model_not_found");
  }
  return response;
}

}  // namespace gander::server
