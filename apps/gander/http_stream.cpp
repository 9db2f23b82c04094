#include "apps/gander/http_stream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace gander {
namespace {

/// A connection over which one response comes.
class HttpConnection {
 public:
  explicit HttpConnection(const HttpAddress& address) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string port = fmt::format("{}", address.port);
    if (const int error = getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found)) {
      fail("{}: {}", address.host, gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
    int reason = 0;
    for (const addrinfo* each = found; each != nullptr && socket_ < 0; each = each->ai_next) {
      socket_ = ::socket(each->ai_family, each->ai_socktype, each->ai_protocol);
      if (socket_ >= 0 && ::connect(socket_, each->ai_addr, each->ai_addrlen) != 0) {
        reason = errno;
        ::close(socket_);
        socket_ = -1;
      }
    }
    if (socket_ < 0) {
      fail("cannot connect to {} port {}: {}", address.host, address.port, std::strerror(reason));
    }
    const int on = 1;
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~HttpConnection() { ::close(socket_); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) fail("the connection was lost: {}", std::strerror(errno));
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  /// Reads until `text` holds `end`, and takes what is before it.
  std::string read_to(std::string_view end) {
    std::size_t at = 0;
    while ((at = buffer_.find(end)) == std::string::npos) read_more();
    std::string text = buffer_.substr(0, at);
    buffer_.erase(0, at + end.size());
    return text;
  }
  std::string read(std::size_t size) {
    while (buffer_.size() < size) read_more();
    std::string text = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return text;
  }

 private:
  void read_more() {
    char bytes[16384];
    const ssize_t size = ::recv(socket_, bytes, sizeof bytes, 0);
    if (size < 0 && errno == EINTR) return;
    if (size <= 0) fail("the connection ended before the response did");
    buffer_.append(bytes, static_cast<std::size_t>(size));
  }

  int socket_ = -1;
  std::string buffer_;
};

std::size_t http_number(std::string_view text, int base) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end == text.data()) fail("the server does not speak HTTP");
  return value;
}

std::string http_field(std::string head, std::string_view name) {
  std::ranges::transform(head, head.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::size_t at = head.find(fmt::format("\r\n{}: ", name));
  if (at == std::string::npos) return "";
  const std::size_t begin = at + name.size() + 4;
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

}  // namespace

HttpAddress parse_http_address(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  HttpAddress address;
  std::string_view rest = url;
  if (!rest.starts_with(kScheme)) fail("{}: expected http://HOST:PORT", url);
  rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.back() != ']') {
    const std::string_view port = rest.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (error != std::errc() || end != port.data() + port.size()) {
      fail("{}: expected http://HOST:PORT", url);
    }
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  if (rest.empty() || rest.find('/') != std::string_view::npos) {
    fail("{}: expected http://HOST:PORT", url);
  }
  address.host = rest;
  return address;
}

unsigned post_for_events(const HttpAddress& address, const std::string& path,
                         const std::string& json, const std::string& key,
                         const std::function<void(std::string_view data)>& on_event,
                         std::string& body) {
  HttpConnection connection(address);
  const bool is_v6 = address.host.find(':') != std::string::npos;
  connection.send(
      fmt::format("POST {} HTTP/1.1\r\nHost: {}{}{}:{}\r\nContent-Type: application/json\r\n"
                  "Content-Length: {}\r\n{}Connection: close\r\n\r\n{}",
                  path, is_v6 ? "[" : "", address.host, is_v6 ? "]" : "", address.port, json.size(),
                  key.empty() ? "" : fmt::format("Authorization: Bearer {}\r\n", key), json));
  const std::string head = connection.read_to("\r\n\r\n") + "\r\n";
  if (!head.starts_with("HTTP/1.1 ")) fail("the server does not speak HTTP");
  const auto status = static_cast<unsigned>(http_number(std::string_view(head).substr(9, 3), 10));
  if (http_field(head, "transfer-encoding") != "chunked") {
    body = connection.read(http_number(http_field(head, "content-length"), 10));
    return status;
  }
  std::string events;
  while (const std::size_t size = http_number(connection.read_to("\r\n"), 16)) {
    events += connection.read(size);
    connection.read_to("\r\n");
    for (std::size_t end = 0; (end = events.find("\n\n")) != std::string::npos;) {
      const std::string_view event = std::string_view(events).substr(0, end);
      if (event.starts_with("data: ")) on_event(event.substr(6));
      events.erase(0, end + 2);
    }
  }
  return status;
}

}  // namespace gander
