#include "apps/gander-server/http/message.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace gander::server {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool decode_path(const std::string& target, std::string& path) {
  path.clear();
  const std::string_view raw = std::string_view(target).substr(0, target.find_first_of("?#"));
  if (!raw.starts_with('/')) return false;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    char c = raw[i];
    if (c == '%') {
      if (i + 2 >= raw.size()) return false;
      const int high = hex_value(raw[i + 1]);
      const int low = hex_value(raw[i + 2]);
      if (high < 0 || low < 0) return false;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') return false;
    path += c;
  }
  return true;
}

bool origin_is_allowed(const std::string& origin, const std::string& host,
                       const std::string& allowed) {
  if (origin.empty() || origin == allowed || allowed == "*") return true;
  const std::size_t scheme = origin.find("://");
  return scheme != std::string::npos && origin.substr(scheme + 3) == host;
}

bool is_numeric_host(const std::string& host) {
  if (host.empty()) return true;  // HTTP/1.0; browsers always send one
  if (host.front() == '[') return true;
  const std::string_view name = std::string_view(host).substr(0, host.rfind(':'));
  if (name == "localhost") return true;
  return std::ranges::all_of(name,
                             [](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; });
}

}  // namespace gander::server
