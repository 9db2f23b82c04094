#include "apps/gander-server/http/connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <utility>

#include "apps/gander-server/api/api_error.h"

namespace gander::server {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

HttpRequest request_of(const http::request<http::string_body>& message, std::string client) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.host = std::string(message[http::field::host]);
  request.origin = std::string(message[http::field::origin]);
  request.authorization = std::string(message[http::field::authorization]);
  request.client = std::move(client);
  return request;
}

/// A status other than 0 is the answer to a request that could not be read.
struct ReadFailure {
  unsigned status = 0;
  std::string message = {};
};

ReadFailure failure_of(const boost::system::error_code& error, const HttpOptions& options) {
  if (error == http::error::body_limit) {
    return {413, fmt::format("the body is larger than {} bytes", options.body_bytes)};
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return {431, fmt::format("the header is larger than {} bytes", options.header_bytes)};
  }
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return {400, "this is not HTTP: " + error.message()};
  }
  return {};
}

// An operand of || that fails would wait for the other.
asio::awaitable<void> keep_error(asio::awaitable<void> work, std::exception_ptr& error) {
  try {
    co_await std::move(work);
  } catch (...) {
    error = std::current_exception();
  }
}

}  // namespace

Connection::Connection(HttpServer& server, asio::ip::tcp::socket socket)
    : server_(server),
      socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      // A header, and what is read ahead while a response goes out.
      buffer_(server.options_.header_bytes + 4096) {
  boost::system::error_code error;
  socket_.set_option(asio::ip::tcp::no_delay(true), error);
  // What a client that does not read may keep here; the rest stays in the bounded mailbox.
  socket_.set_option(asio::socket_base::send_buffer_size(64 << 10), error);
  const auto peer = socket_.remote_endpoint(error);
  client_ = error ? "?" : peer.address().to_string();
  server_.connections_.insert(this);
}

Connection::~Connection() {
  server_.connections_.erase(this);
}

const HttpOptions& Connection::options() const {
  return server_.options_;
}

bool Connection::is_draining() const {
  return server_.is_draining_;
}

void Connection::close() {
  boost::system::error_code error;
  socket_.close(error);
}

// A deadline is set for every write, so the timer is left alone where it rings early enough: it
// then looks at what the deadline has become.
void Connection::set_deadline(std::chrono::seconds time) {
  deadline_ = std::chrono::steady_clock::now() + time;
  if (!is_timer_set_ || timer_.expiry() > deadline_) wait_for_deadline();
}

void Connection::clear_deadline() {
  deadline_ = std::chrono::steady_clock::time_point::max();
}

void Connection::wait_for_deadline() {
  is_timer_set_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (error || !self) return;
    self->is_timer_set_ = false;
    if (self->deadline_ <= std::chrono::steady_clock::now()) {
      self->close();
    } else if (self->deadline_ != std::chrono::steady_clock::time_point::max()) {
      self->wait_for_deadline();
    }
  });
}

asio::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  while (co_await serve_request()) {
  }
  clear_deadline();
  close();
}

asio::awaitable<void> Connection::refuse() {
  const auto self = shared_from_this();
  is_idle_ = false;
  set_deadline(server_.options_.read_header);
  co_await refuse_request(503, "too many connections: try again later");
  clear_deadline();
  close();
}

asio::awaitable<bool> Connection::serve_request() {
  const HttpOptions& options = server_.options_;
  is_idle_ = true;
  if (server_.is_draining_) co_return false;
  if (buffer_.size() == 0) {
    set_deadline(options.idle);
    const auto [error] = co_await socket_.async_wait(asio::socket_base::wait_read, kNoThrow);
    if (error) co_return false;
  }
  is_idle_ = false;
  set_deadline(options.read_header);
  http::request_parser<http::string_body> parser;
  parser.header_limit(static_cast<std::uint32_t>(options.header_bytes));
  parser.body_limit(options.body_bytes);
  auto [error, header_bytes] = co_await http::async_read_header(socket_, buffer_, parser, kNoThrow);
  HttpRequest request;
  bool has_path = false;
  if (!error) {
    request = request_of(parser.get(), client_);
    has_path = decode_path(std::string(parser.get().target()), request.path);
  }
  const bool is_screened_out = has_path && !parser.is_done() && !server_.screen_(request);
  if (!error && !parser.is_done() && !is_screened_out) {
    set_deadline(options.read_body);
    if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(socket_, asio::buffer(kContinue), kNoThrow);
    }
    std::size_t body_bytes = 0;
    std::tie(error, body_bytes) = co_await http::async_read(socket_, buffer_, parser, kNoThrow);
  }
  clear_deadline();
  keep_alive_ = false;
  if (error) {
    ReadFailure failure = failure_of(error, options);
    if (failure.status != 0) {
      co_await refuse_request(failure.status, std::move(failure.message));
    }
    co_return false;
  }
  http::request<http::string_body>& message = parser.get();
  is_http_1_0_ = message.version() == 10;
  is_head_ = message.method() == http::verb::head;
  if (!has_path) {
    co_await refuse_request(400, "malformed request target");
    co_return false;
  }
  request.body = std::move(message.body());
  keep_alive_ = message.keep_alive() && !is_screened_out;
  Exchange exchange(*this, std::move(request));
  try {
    co_await server_.handler_(exchange);
  } catch (const boost::system::system_error&) {
    co_return false;  // the client is gone
  }
  if (is_screened_out && socket_.is_open()) co_await linger();
  co_return keep_alive_&& socket_.is_open();
}

asio::awaitable<void> Connection::refuse_request(unsigned status, std::string message) {
  keep_alive_ = false;
  Exchange exchange(*this, {});
  try {
    co_await exchange.respond(error_response(ApiError(status, message)));
  } catch (const boost::system::system_error&) {
    co_return;
  }
  co_await linger();
}

asio::awaitable<void> Connection::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  set_deadline(std::chrono::seconds(2));
  std::string scratch(16 << 10, '\0');
  for (std::size_t read = 0; read < (std::size_t{64} << 20);) {
    const auto [error, bytes] = co_await socket_.async_read_some(asio::buffer(scratch), kNoThrow);
    if (error) co_return;
    read += bytes;
  }
}

asio::awaitable<void> Connection::watch() {
  while (buffer_.size() < buffer_.max_size()) {
    const std::size_t room = std::min<std::size_t>(4096, buffer_.max_size() - buffer_.size());
    const auto [error, bytes] = co_await socket_.async_read_some(buffer_.prepare(room), kNoThrow);
    buffer_.commit(bytes);
    if (error) co_return;
  }
  // So much read ahead is enough; that it went away shows when something is written.
  asio::steady_timer forever(socket_.get_executor(), std::chrono::steady_clock::time_point::max());
  co_await forever.async_wait(kNoThrow);
}

Exchange::Exchange(Connection& connection, HttpRequest request)
    : connection_(connection), request_(std::move(request)) {}

asio::awaitable<void> Exchange::respond(HttpResponse response) {
  Connection& connection = connection_;
  connection.keep_alive_ = connection.keep_alive_ && !connection.is_draining();
  http::response<http::string_body> message(static_cast<http::status>(response.status),
                                            connection.is_http_1_0_ ? 10 : 11);
  message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : headers) message.set(name, value);
  for (const auto& [name, value] : response.headers) message.set(name, value);
  message.keep_alive(connection.keep_alive_);
  message.body() = std::move(response.body);
  message.prepare_payload();
  if (connection.is_head_) message.body().clear();
  status_ = response.status;
  bytes_sent_ += message.body().size();
  http::response_serializer<http::string_body> serializer(message);
  while (!serializer.is_done()) {
    connection.set_deadline(connection.options().write);
    co_await http::async_write_some(connection.socket_, serializer, asio::use_awaitable);
  }
  connection.clear_deadline();
}

asio::awaitable<void> Exchange::begin_events() {
  Connection& connection = connection_;
  connection.keep_alive_ =
      connection.keep_alive_ && !connection.is_draining() && !connection.is_http_1_0_;
  http::response<http::empty_body> message(http::status::ok, connection.is_http_1_0_ ? 10 : 11);
  message.set(http::field::content_type, "text/event-stream; charset=utf-8");
  for (const auto& [name, value] : headers) message.set(name, value);
  message.set(http::field::cache_control, "no-cache");
  message.set("X-Accel-Buffering", "no");  // nginx: pass events on as they come
  message.keep_alive(connection.keep_alive_);
  message.chunked(!connection.is_http_1_0_);
  status_ = 200;
  http::response_serializer<http::empty_body> serializer(message);
  connection.set_deadline(connection.options().write);
  co_await http::async_write_header(connection.socket_, serializer, asio::use_awaitable);
  connection.clear_deadline();
}

asio::awaitable<void> Exchange::write_events(std::string text) {
  if (text.empty()) co_return;  // an empty chunk would be the end
  if (connection_.is_http_1_0_) {
    co_await write(text);
  } else {
    co_await write(fmt::format("{:x}\r\n{}\r\n", text.size(), text));
  }
}

asio::awaitable<void> Exchange::end_events() {
  if (!connection_.is_http_1_0_) co_await write("0\r\n\r\n");
}

void Exchange::abort() {
  connection_.close();
}

asio::awaitable<void> Exchange::write(std::string_view bytes) {
  connection_.set_deadline(connection_.options().write);
  co_await asio::async_write(connection_.socket_, asio::buffer(bytes), asio::use_awaitable);
  connection_.clear_deadline();
  bytes_sent_ += bytes.size();
}

asio::awaitable<bool> Exchange::while_connected(asio::awaitable<void> work) {
  using namespace asio::experimental::awaitable_operators;
  std::exception_ptr error;
  const auto first = co_await (keep_error(std::move(work), error) || connection_.watch());
  if (first.index() == 1) {
    connection_.close();
    co_return false;
  }
  if (error) std::rethrow_exception(error);
  co_return true;
}

}  // namespace gander::server
