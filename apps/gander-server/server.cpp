#include "apps/gander-server/server.h"

#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <utility>

namespace gander::server {

Server::Server(Engine& engine, StateCache* cache, const HttpOptions& http, ServiceOptions service)
    : engine_(engine),
      io_(1),
      signals_(io_),
      service_(engine, cache, std::move(service)),
      http_(
          io_, http, [this](Exchange& exchange) { return service_.handle(exchange); },
          [this](const HttpRequest& head) { return service_.admits(head); }) {
  service_.connections = [this] { return http_.connections(); };
}

void Server::drain_on_signals(std::chrono::seconds longest) {
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  wait_for_signal(longest);
}

void Server::wait_for_signal(std::chrono::seconds longest) {
  signals_.async_wait([this, longest](const boost::system::error_code& error, int) {
    if (error) return;
    if (is_draining_) is_cut_ = true;
    wait_for_signal(longest);
    drain(longest);
  });
}

void Server::drain(std::chrono::seconds longest) {
  asio::co_spawn(io_, end(longest), asio::detached);
}

void Server::run() {
  io_.run();
}

asio::awaitable<void> Server::end(std::chrono::seconds longest) {
  if (std::exchange(is_draining_, true)) co_return;
  spdlog::info("draining: {} connections, at most {} s", http_.connections(), longest.count());
  service_.drain();
  engine_.drain();
  http_.drain();
  const auto deadline = std::chrono::steady_clock::now() + longest;
  asio::steady_timer pause(io_);
  while (http_.connections() > 0 && !is_cut_ && std::chrono::steady_clock::now() < deadline) {
    pause.expires_after(std::chrono::milliseconds(20));
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  if (http_.connections() > 0) spdlog::warn("cutting {} connections", http_.connections());
  http_.cut();
  signals_.cancel();
}

}  // namespace gander::server
