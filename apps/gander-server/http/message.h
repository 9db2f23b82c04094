#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace gander::server {

/// A request as handlers see it.
struct HttpRequest {
  std::string method;         ///< "GET"
  std::string path;           ///< percent-decoded, without the query
  std::string host;           ///< of the Host header
  std::string origin;         ///< empty: not from a page of a browser, or from the server's own
  std::string authorization;  ///< never logged
  std::string body;
  std::string client;  ///< the peer's address
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// "/v1/states/a%20b?x=1" as "/v1/states/a b". False for what is malformed: bad escapes, a NUL, no
/// leading slash.
bool decode_path(const std::string& target, std::string& path);

/// Whether pages of `origin` may use a server addressed as `host`: only its own pages may, unless
/// `allowed` names another. An empty origin is no page.
bool origin_is_allowed(const std::string& origin, const std::string& host,
                       const std::string& allowed);

/// Whether a Host header names a machine by address, or as localhost. A page that had its own name
/// point to this machine (DNS rebinding) would send that name.
bool is_numeric_host(const std::string& host);

}  // namespace gander::server
