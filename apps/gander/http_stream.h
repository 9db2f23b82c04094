#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace gander {

/// http://HOST:PORT
struct HttpAddress {
  std::string host;
  std::uint16_t port = 80;
};
/// Throws Error for what is no such address.
HttpAddress parse_http_address(const std::string& url);

/// POSTs JSON over a connection of its own and gives `on_event` the data of every server-sent
/// event, as it comes. Returns the status; `body` receives what came instead when it is not 200.
/// `key`: sent as a bearer token, unless empty. Throws Error when the connection fails or ends
/// early.
unsigned post_for_events(const HttpAddress& address, const std::string& path,
                         const std::string& json, const std::string& key,
                         const std::function<void(std::string_view data)>& on_event,
                         std::string& body);

}  // namespace gander
