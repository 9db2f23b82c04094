#pragma once

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "apps/gander-server/http/http_server.h"

namespace gander::server {

/// A client: reads its requests one after the other and has them answered.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HttpServer& server, asio::ip::tcp::socket socket);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Until the connection is over. Keeps itself alive.
  asio::awaitable<void> run();
  /// Answers 503 and ends, for one too many.
  asio::awaitable<void> refuse();

  void close();
  bool is_idle() const { return is_idle_; }

 private:
  friend class Exchange;

  const HttpOptions& options() const;
  bool is_draining() const;
  /// Closes the connection when the next step is not done by then.
  void set_deadline(std::chrono::seconds time);
  void clear_deadline();
  void wait_for_deadline();
  asio::awaitable<bool> serve_request();
  asio::awaitable<void> refuse_request(unsigned status, std::string message);
  /// Reads on until the client is gone: what it sends belongs to its next request.
  asio::awaitable<void> watch();
  /// Lets the client read the last response before unread input resets the connection.
  asio::awaitable<void> linger();

  HttpServer& server_;
  asio::ip::tcp::socket socket_;
  asio::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::time_point::max();
  bool is_timer_set_ = false;
  boost::beast::flat_buffer buffer_;
  std::string client_;
  bool is_idle_ = true;
  // Of the present request.
  bool keep_alive_ = false;
  bool is_http_1_0_ = false;
  bool is_head_ = false;
};

}  // namespace gander::server
