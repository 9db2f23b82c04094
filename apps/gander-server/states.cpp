#include <utility>

#include "apps/gander-server/api/json_fields.h"
#include "apps/gander-server/service.h"

namespace gander::server {
namespace {

constexpr std::string_view kPrefix = "/v1/states/";
constexpr std::string_view kFork = "/fork";

[[noreturn]] void refuse_unknown(const std::string& name) {
  throw ApiError(404, fmt::format("there is no state \"{}\"", name.substr(0, 100)), "",
                 "state_not_found");
}

Json state_json(const std::string& name, std::size_t tokens, std::uint64_t bytes) {
  return {{"id", name}, {"object", "state"}, {"tokens", tokens}, {"bytes", bytes}};
}

}  // namespace

std::string state_name(const std::string& client, const std::string& name) {
  return client + "/" + name;
}

// Runs on a worker: states have megabytes.
HttpResponse Service::change_state(const HttpRequest& request, const std::string& client) {
  NamedStates& kept = engine_.states();
  HttpResponse response;
  const std::string own = state_name(client, "");
  const auto find = [&](const std::string& name) {
    for (const NamedStates::Entry& entry : kept.list()) {
      if (entry.name == own + name) return state_json(name, entry.tokens, entry.bytes);
    }
    refuse_unknown(name);
  };
  if (request.path.size() <= kPrefix.size()) {
    if (request.method != "GET") throw ApiError(405, "/v1/states takes GET");
    Json data = Json::array();
    for (const NamedStates::Entry& entry : kept.list()) {
      if (!entry.name.starts_with(own)) continue;
      data.push_back(state_json(entry.name.substr(own.size()), entry.tokens, entry.bytes));
    }
    response.body = json_text({{"object", "list"}, {"data", std::move(data)}}) + "\n";
    return response;
  }
  std::string name = request.path.substr(kPrefix.size());
  const bool is_fork = request.method == "POST" && name.ends_with(kFork);
  if (is_fork) name.resize(name.size() - kFork.size());
  if (name.empty() || name.size() > 200) throw ApiError(400, "a state's name has 1 to 200 bytes");
  if (is_fork) {
    const Json body = parse_body(request.body);
    const std::string to = JsonFields(body, "").required_string("to");
    if (to.empty() || to.size() > 200) refuse_field("to", "'to' must have 1 to 200 bytes");
    if (kept.find(own + name) == nullptr) refuse_unknown(name);
    kept.fork(own + name, own + to);
    response.body = json_text(find(to)) + "\n";
  } else if (request.method == "GET" || request.method == "HEAD") {
    if (kept.find(own + name) == nullptr) refuse_unknown(name);
    response.content_type = "application/octet-stream";
    response.body = kept.export_bytes(own + name);
  } else if (request.method == "PUT") {
    kept.import_bytes(own + name, request.body);
    response.body = json_text(find(name)) + "\n";
  } else if (request.method == "DELETE") {
    if (!kept.erase(own + name)) refuse_unknown(name);
    response.body =
        json_text({{"id", name}, {"object", "state.deleted"}, {"deleted", true}}) + "\n";
  } else {
    throw ApiError(405, "a state takes GET, PUT, DELETE, and POST to /fork");
  }
  return response;
}

asio::awaitable<void> Service::states(Exchange& exchange, const std::string& client) {
  HttpResponse response;
  co_await on_worker([&] { response = change_state(exchange.request(), client); });
  co_await exchange.respond(std::move(response));
}

}  // namespace gander::server
