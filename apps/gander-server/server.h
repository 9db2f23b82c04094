#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <cstdint>

#include "apps/gander-server/http/http_server.h"
#include "apps/gander-server/service.h"

namespace gander::server {

/// The HTTP server and the service on one thread.
class Server {
 public:
  /// Listens at once; connections are answered when run() is called. Throws Error when the address
  /// cannot be had.
  Server(Engine& engine, StateCache* cache, const HttpOptions& http, ServiceOptions service);

  std::uint16_t port() const { return http_.port(); }

  /// Drains on SIGTERM and SIGINT; a second one cuts.
  void drain_on_signals(std::chrono::seconds longest);
  /// From any thread: takes nothing new, lets what is under way end for so long, cuts the rest.
  void drain(std::chrono::seconds longest);
  /// Answers until drained.
  void run();

 private:
  asio::awaitable<void> end(std::chrono::seconds longest);
  void wait_for_signal(std::chrono::seconds longest);

  Engine& engine_;
  asio::io_context io_;
  asio::signal_set signals_;
  Service service_;
  HttpServer http_;
  bool is_draining_ = false, is_cut_ = false;
};

}  // namespace gander::server
