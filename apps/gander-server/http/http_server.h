#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "apps/gander-server/http/message.h"

namespace gander::server {

namespace asio = boost::asio;

struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;  ///< 0: any that is free
  std::size_t header_bytes = std::size_t{16} << 10;
  std::size_t body_bytes = std::size_t{16} << 20;
  std::size_t connections = 4096;                        ///< more are answered with 503 and closed
  std::chrono::seconds idle = std::chrono::seconds{75};  ///< between two requests
  std::chrono::seconds read_header = std::chrono::seconds{10};  ///< from its first byte
  std::chrono::seconds read_body = std::chrono::seconds{60};
  std::chrono::seconds write = std::chrono::seconds{30};  ///< some of a response, or some events
};

class Connection;

/// One request and the way to answer it. The functions that write throw
/// boost::system::system_error when the client is gone or reads nothing for too long; the
/// connection is then closed.
class Exchange {
 public:
  Exchange(Connection& connection, HttpRequest request);

  const HttpRequest& request() const { return request_; }

  asio::awaitable<void> respond(HttpResponse response);

  /// A stream of events in the place of a response: its header, events as they come, the end.
  asio::awaitable<void> begin_events();
  asio::awaitable<void> write_events(std::string text);
  asio::awaitable<void> end_events();

  /// Runs `work` for as long as the client is there; cancels it, and returns false, when it is not.
  asio::awaitable<bool> while_connected(asio::awaitable<void> work);

  /// Closes the connection, whatever is under way.
  void abort();

  /// For the log; 0 before anything was sent.
  unsigned status() const { return status_; }
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::string note = {};  ///< of the handler, for the log
  /// Go with whatever is answered.
  std::vector<std::pair<std::string, std::string>> headers = {};

 private:
  asio::awaitable<void> write(std::string_view bytes);

  Connection& connection_;
  HttpRequest request_;
  unsigned status_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

using HttpHandler = std::function<asio::awaitable<void>(Exchange&)>;
/// Whether the body of a request with this head is to be read: without it the handler, which is to
/// refuse the request, gets the head alone, and the connection is closed.
using HttpScreen = std::function<bool(const HttpRequest& head)>;

/// Serves HTTP/1.1 on one thread, that of `io`: a coroutine for each connection. Limits are checked
/// before anything is kept: what is too large or too slow is answered and closed.
class HttpServer {
 public:
  /// Listens. Throws Error when the address cannot be had.
  HttpServer(
      asio::io_context& io, HttpOptions options, HttpHandler handler,
      HttpScreen screen = [](const HttpRequest&) { return true; });
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const { return port_; }
  std::size_t connections() const { return connections_.size(); }

  // On the thread of `io`:
  /// No new connections; idle ones end now, others after their response.
  void drain();
  /// Ends all connections.
  void cut();

 private:
  friend class Connection;
  asio::awaitable<void> listen();

  asio::io_context& io_;
  HttpOptions options_;
  HttpHandler handler_;
  HttpScreen screen_;
  asio::ip::tcp::acceptor acceptor_;
  std::uint16_t port_ = 0;
  bool is_draining_ = false;
  std::unordered_set<Connection*> connections_;
};

}  // namespace gander::server
