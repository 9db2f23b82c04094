#include "apps/gander-server/api/api_keys.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "base/error.h"

namespace gander::server {
namespace {

constexpr std::size_t kShortest = 8;

void add_key(std::string_view text, const std::string& where, std::vector<std::string>& keys) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos || text[begin] == '#') return;
  text = text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
  if (text.find_first_of(kSpace) != std::string_view::npos) {
    fail("{}: a key has white space inside", where);
  }
  if (text.size() < kShortest) fail("{}: a key is shorter than {} bytes", where, kShortest);
  keys.emplace_back(text);
}

// Reads all of `key`, however much of it is right.
bool is_equal(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (std::size_t i = 0; i < key.size(); ++i) {
    const char c = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned char>(c) ^ static_cast<unsigned char>(key[i]);
  }
  return difference == 0;
}

}  // namespace

ApiKeys::ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}

ApiKeys ApiKeys::load(const std::string& path) {
  std::vector<std::string> keys;
  if (!path.empty()) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) add_key(line, path, keys);
    if (!file.eof()) fail("--api-key-file {}: cannot be read", path);
    if (keys.empty()) fail("--api-key-file {}: there is no key in it", path);
  }
  if (const char* const list = std::getenv("GANDER_API_KEYS")) {
    std::string_view rest = list;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(','), rest.size());
      add_key(rest.substr(0, end), "GANDER_API_KEYS", keys);
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return ApiKeys(std::move(keys));
}

std::optional<std::string> ApiKeys::identify(std::string_view authorization) const {
  if (keys_.empty()) return "";
  constexpr std::string_view kScheme = "Bearer ";
  const bool has_scheme = authorization.starts_with(kScheme);
  const std::string_view given = has_scheme ? authorization.substr(kScheme.size()) : "";
  std::size_t found = keys_.size();
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    if (is_equal(given, keys_[i])) found = i;
  }
  if (found == keys_.size()) return std::nullopt;
  return fmt::format("{:016x}", XXH3_64bits(keys_[found].data(), keys_[found].size()));
}

}  // namespace gander::server
