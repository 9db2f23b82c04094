#include "apps/gander-server/http/http_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>
#include <vector>

#include "apps/gander-server/http/connection.h"
#include "base/error.h"

namespace gander::server {

HttpServer::HttpServer(asio::io_context& io, HttpOptions options, HttpHandler handler,
                       HttpScreen screen)
    : io_(io),
      options_(std::move(options)),
      handler_(std::move(handler)),
      screen_(std::move(screen)),
      acceptor_(io) {
  using asio::ip::tcp;
  boost::system::error_code error;
  const auto check = [&](std::string_view what) {
    if (error) {
      fail("cannot {} {} port {}: {}", what, options_.host, options_.port, error.message());
    }
  };
  const auto address =
      asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, error);
  if (error) fail("--host {}: not an IP address, for example 127.0.0.1 or ::1", options_.host);
  const tcp::endpoint endpoint(address, options_.port);
  acceptor_.open(endpoint.protocol(), error);
  check("listen at");
  acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  check("listen at");
  acceptor_.bind(endpoint, error);
  check("listen at");
  acceptor_.listen(asio::socket_base::max_listen_connections, error);
  check("listen at");
  port_ = acceptor_.local_endpoint().port();
  asio::co_spawn(io_, listen(), asio::detached);
}

HttpServer::~HttpServer() = default;

asio::awaitable<void> HttpServer::listen() {
  asio::steady_timer pause(io_);
  while (acceptor_.is_open()) {
    auto [error, socket] = co_await acceptor_.async_accept(asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::operation_aborted || !acceptor_.is_open()) co_return;
    if (error) {  // no more file descriptors, most likely: some will be closed
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    const bool is_full = connections_.size() >= options_.connections;
    const auto connection = std::make_shared<Connection>(*this, std::move(socket));
    asio::co_spawn(io_, is_full ? connection->refuse() : connection->run(), asio::detached);
  }
}

void HttpServer::drain() {
  is_draining_ = true;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  for (Connection* connection : std::vector(connections_.begin(), connections_.end())) {
    if (connection->is_idle()) connection->close();
  }
}

void HttpServer::cut() {
  for (Connection* connection : std::vector(connections_.begin(), connections_.end())) {
    connection->close();
  }
}

}  // namespace gander::server
